package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// TestBus: who records all that goes to the TPM and comes from it finds none of
// the secrets in it.
func TestBus(t *testing.T) {
	var bus bytes.Buffer
	o := bending(t, tpmtest.Swtpm(t), func(_ tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		bus.Write(command)
		answer, err := send(command)
		bus.Write(answer)
		return answer, err
	})
	behind(t, o, func(transport tpm.Transport) {
		if _, err := (tpm2.GetRandom{BytesRequested: 8}).Execute(transport); err != nil || bus.Len() < 30 {
			t.Fatalf("the recorder has %d bytes, %v", bus.Len(), err)
		}
	})
	secrets := map[string][]byte{
		"sealed":          random(t, 64),
		"HMAC secret":     random(t, 32),
		"a key's auth":    random(t, tpm.AuthSize),
		"counter's auth":  random(t, 32),
		"NV data":         random(t, 32),
		"HMAC'd message":  random(t, 200),
		"long message":    random(t, 1024), // the first piece of it
		"activated":       random(t, tpm.MaxActivation),
		"the HMAC itself": nil,
	}
	ek := endorsement(t, o, tpmtest.P256)
	d := open(t, o)
	ctx, auth := t.Context(), secrets["a key's auth"]

	below := must[*tpm.Parent](t)(d.NewParent(ctx, nil))
	for _, parent := range []*tpm.Parent{nil, below} {
		sealed := must[*tpm.KeyFile](t)(d.Seal(ctx, parent, secrets["sealed"]))
		must[[]byte](t)(unseal(t, d, sealed))

		k := must[*tpm.Key](t)(d.Load(ctx, must[*tpm.KeyFile](t)(d.ImportHMAC(ctx, parent, crypto.SHA256, secrets["HMAC secret"], auth)), auth))
		secrets["the HMAC itself"] = must[[]byte](t)(k.HMAC(ctx, secrets["HMAC'd message"]))
		must[[]byte](t)(k.HMAC(ctx, append(bytes.Clone(secrets["long message"]), 1)))

		r := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
		must[*tpm.KeyFile](t)(d.ImportRSA(ctx, parent, r, auth))
		round := fmt.Sprintf(" below a parent: %t", parent != nil)
		secrets["P"+round], secrets["Q"+round], secrets["D"+round] = r.Primes[0].Bytes(), r.Primes[1].Bytes(), r.D.Bytes()

		e := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		f := must[*tpm.KeyFile](t)(d.ImportECDSA(ctx, parent, e, auth))
		secrets["ECDSA scalar"+round] = must[[]byte](t)(e.Bytes())
		digest := sha256.Sum256([]byte("message"))
		must[[]byte](t)(must[*tpm.Key](t)(d.Load(ctx, f, auth)).Sign(ctx, digest[:]))
	}

	if err := d.DefineCounter(ctx, counterIndex, secrets["counter's auth"]); err != nil {
		t.Fatal(err)
	}
	must[uint64](t)(d.Increment(ctx, counterIndex, secrets["counter's auth"]))
	if err := d.NVDefine(ctx, dataIndex, 32, nvAuth); err != nil {
		t.Fatal(err)
	}
	if err := d.NVWrite(ctx, dataIndex, nvAuth, secrets["NV data"]); err != nil {
		t.Fatal(err)
	}
	must[[]byte](t)(d.NVRead(ctx, dataIndex, nvAuth))

	must[[]byte](t)(activate(t, d, ek, must[*tpm.CredentialBlob](t)(ek.MakeCredential(storageKey(t, d), secrets["activated"]))))

	for name, secret := range secrets {
		if at := bytes.Index(bus.Bytes(), secret[:min(len(secret), 16)]); at >= 0 {
			t.Errorf("%s went over the bus in clear, at byte %d of %d", name, at, bus.Len())
		}
	}
}
