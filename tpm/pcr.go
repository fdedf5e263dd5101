package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/sealsign/sealsign/internal/fault"
)

// PCRValue is what one PCR of the SHA-256 bank holds. It is no secret.
type PCRValue [sha256.Size]byte

// MarshalText gives 64 hex digits.
func (v PCRValue) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, v[:]), nil }

// UnmarshalText reads them.
func (v *PCRValue) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(v)) {
		return errors.New("it is not 64 hex digits")
	}
	_, err := hex.Decode(v[:], text)
	return err
}

func (v PCRValue) String() string { return hex.EncodeToString(v[:]) }

// PCRs are values of PCRs of the SHA-256 bank, by their numbers: what they hold, or
// what they will hold after an update.
type PCRs map[int]PCRValue

const (
	pcrBank    = "sha256"
	pcrsHint   = `they have the form {"sha256": {"7": "64 hex digits"}}, as sealsign doctor --pcr-values prints it`
	maxPCRJSON = 16 << 10
)

// Document gives the values as JSON: {"sha256": {"7": "64 hex digits"}}.
func (p PCRs) Document() []byte {
	document, err := json.Marshal(map[string]PCRs{pcrBank: p})
	if err != nil {
		panic(err) // numbers and bytes always have a form
	}
	return document
}

// ParsePCRs reads what Document gives, one value of each PCR at most. It fails with
// BAD_REQUEST.
func ParsePCRs(document []byte) (PCRs, error) {
	if len(document) > maxPCRJSON {
		return nil, errPCRs(fmt.Errorf("they have more than %d bytes", maxPCRJSON))
	}
	d := json.NewDecoder(bytes.NewReader(document))
	err := expect(d, json.Delim('{'), pcrBank)
	var values PCRs
	if err == nil {
		values, err = readPCRs(d)
	}
	if err == nil {
		err = expect(d, json.Delim('}'))
	}
	if err == nil && len(values) == 0 {
		err = errors.New("there is none")
	}
	if _, end := d.Token(); err == nil && !errors.Is(end, io.EOF) {
		err = errors.New("something follows them")
	}
	if err != nil {
		return nil, errPCRs(err)
	}
	return values, nil
}

func errPCRs(err error) error {
	return fault.New(fault.BadRequest, "the PCR values can't be read: %v", err).WithHint(pcrsHint).Because(err)
}

// expect reads these tokens. encoding/json would also take other spellings, and of
// two members with one name the second.
func expect(d *json.Decoder, tokens ...json.Token) error {
	for _, want := range tokens {
		got, err := d.Token()
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%v is where %v is wanted", got, want)
		}
	}
	return nil
}

// readPCRs reads an object of values.
func readPCRs(d *json.Decoder) (PCRs, error) {
	values := make(PCRs)
	err := expect(d, json.Delim('{'))
	for err == nil && d.More() {
		err = values.read(d)
	}
	if err == nil {
		err = expect(d, json.Delim('}'))
	}
	return values, err
}

// read reads the value of one PCR.
func (p PCRs) read(d *json.Decoder) error {
	name, err := d.Token()
	if err != nil {
		return err
	}
	text, _ := name.(string) // a member's name is text
	pcr, err := strconv.Atoi(text)
	if err != nil || pcr < 0 || pcr > maxPCR || strconv.Itoa(pcr) != text {
		return fmt.Errorf("%q is no PCR: they have the numbers 0 to %d", text, maxPCR)
	}
	if _, twice := p[pcr]; twice {
		return fmt.Errorf("PCR %d has two values", pcr)
	}
	token, err := d.Token()
	if err != nil {
		return err
	}
	digits, _ := token.(string)
	value, err := hex.DecodeString(digits)
	if err != nil || len(value) != sha256.Size {
		return fmt.Errorf("the value of PCR %d is not 64 hex digits", pcr)
	}
	p[pcr] = PCRValue(value)
	return nil
}

// PCRNames is "PCR 7", or "PCRs 4, 7 and 11".
func PCRNames(pcrs []int) string {
	last := len(pcrs) - 1
	names := make([]string, len(pcrs))
	for i, pcr := range pcrs {
		names[i] = strconv.Itoa(pcr)
	}
	if last == 0 {
		return "PCR " + names[0]
	}
	return "PCRs " + strings.Join(names[:last], ", ") + " and " + names[last]
}

// ReadPCRs reads PCRs as they are now. KEY_UNSUPPORTED: the TPM keeps no SHA-256 bank.
func (d *Device) ReadPCRs(ctx context.Context, which []int) (values PCRs, err error) {
	if len(which) == 0 {
		return nil, nil
	}
	err = d.do(ctx, "reading PCRs", func(c *conn) (err error) {
		values, err = c.needPCRs(which)
		return err
	})
	if err != nil {
		return nil, err // values belong to the job still, if its caller has left
	}
	return values, nil
}

// BoundPCRs reads the PCRs whose values what is sealed now is bound to.
func (d *Device) BoundPCRs(ctx context.Context) (PCRs, error) { return d.ReadPCRs(ctx, d.boundTo()) }

// boundTo are the PCRs of Options, unless an authority approves their values: then its
// parent is bound to that, and nothing to a value.
func (d *Device) boundTo() []int {
	if d.opts.Authority != nil {
		return nil
	}
	return d.opts.PCRs
}

// Sealed tells whether it is a secret to unseal, and not a key.
func (f *KeyFile) Sealed() bool { return f.sealed }

// PCRs are the numbers of the PCRs that the secret is bound to, ascending.
func (f *KeyFile) PCRs() []int {
	pcrs := make([]int, len(f.pcrs))
	for i, v := range f.pcrs {
		pcrs[i] = v.pcr
	}
	return pcrs
}

// Moved are the PCRs whose values aren't the ones that the secret is bound to.
func (f *KeyFile) Moved(now PCRs) (moved []int) {
	for _, v := range f.pcrs {
		if value, known := now[v.pcr]; !known || !slices.Equal(v.digest, digestOfPCR(value)) {
			moved = append(moved, v.pcr)
		}
	}
	return moved
}

// digestOfPCR is the pcrDigest of a PolicyPCR of one PCR (part 3, 23.7).
func digestOfPCR(value PCRValue) []byte {
	digest := sha256.Sum256(value[:])
	return digest[:]
}
