package tpm_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// testSealTo seals a secret to what a PCR holds now, and to what it will hold.
func testSealTo(t *testing.T, o tpm.Options) {
	reset := func(transport tpm.Transport) { tpmtest.Reset(t, transport, debugPCR) }
	behind(t, o, reset)
	o.PCRs = []int{7, debugPCR}
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	now := must[tpm.PCRs](t)(d.BoundPCRs(t.Context()))
	later := tpm.PCRs{debugPCR: tpmtest.Extended(now[debugPCR]), 7: now[7]}
	before := reparsed(t, must[*tpm.KeyFile](t)(d.SealTo(t.Context(), nil, []byte("before"), now)))
	after := reparsed(t, must[*tpm.KeyFile](t)(d.SealTo(t.Context(), nil, []byte("after"), later)))
	always := reparsed(t, must[*tpm.KeyFile](t)(d.SealTo(t.Context(), nil, []byte("always"), nil)))
	opens := func(want string, f *tpm.KeyFile, moved ...int) {
		t.Helper()
		got, err := unseal(t, d, f)
		if len(moved) > 0 {
			wants(t, err, fault.KeyLocked, "PCR 16")
		} else if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", want, got, err)
		}
		if at := f.Moved(must[tpm.PCRs](t)(d.BoundPCRs(t.Context()))); !slices.Equal(at, moved) {
			t.Errorf("%s: moved are %v, want %v", want, at, moved)
		}
	}
	opens("before", before)
	opens("after", after, debugPCR)
	opens("always", always)
	shut(t, d)
	behind(t, o, func(transport tpm.Transport) { tpmtest.Extend(t, transport, debugPCR) })
	d = must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	opens("before", before, debugPCR)
	opens("after", after)
	opens("always", always)
	if got := before.Moved(nil); !slices.Equal(got, []int{7, debugPCR}) {
		t.Errorf("of no known values have moved %v", got)
	}
	shut(t, d)
	behind(t, o, reset)
}

const someDigest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func TestPCRDocument(t *testing.T) {
	for document, want := range map[string][]int{
		`{"sha256":{"7":"` + someDigest + `"}}`: {7},
		"{ \"sha256\": {\n\"23\": \"" + strings.ToUpper(someDigest) + "\", \"0\": \"" + someDigest + "\" }}\n": {0, 23},
	} {
		values, err := tpm.ParsePCRs([]byte(document))
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(values)), want) {
			t.Errorf("%s: %v, %v", document, values, err)
			continue
		}
		for pcr, value := range values {
			if value.String() != someDigest {
				t.Errorf("PCR %d is %s", pcr, value)
			}
		}
		if again, err := tpm.ParsePCRs(values.Document()); err != nil || !maps.Equal(again, values) {
			t.Errorf("%s comes back as %v, %v", values.Document(), again, err)
		}
	}
	one := `"7":"` + someDigest + `"`
	for document, says := range map[string]string{
		``:                                          "EOF",
		`[]`:                                        "[ is where { is wanted",
		`{}`:                                        "sha256 is wanted",
		`{"sha1":{}}`:                               "sha1 is where sha256 is wanted",
		`{"SHA256":{` + one + `}}`:                  "SHA256 is where sha256 is wanted",
		`{"sha256":[]}`:                             "[ is where { is wanted",
		`{"sha256":{}}`:                             "there is none",
		`{"sha256":{` + one + `,` + one + `}}`:      "PCR 7 has two values",
		`{"sha256":{` + one + `},"sha384":{}}`:      "sha384 is where } is wanted",
		`{"sha256":{` + one + `}} {}`:               "something follows",
		`{"sha256":{` + one + `}`:                   "EOF",
		`{"sha256":{"24":"` + someDigest + `"}}`:    `"24" is no PCR`,
		`{"sha256":{"-1":"` + someDigest + `"}}`:    `"-1" is no PCR`,
		`{"sha256":{"07":"` + someDigest + `"}}`:    `"07" is no PCR`,
		`{"sha256":{"pcr7":"` + someDigest + `"}}`:  `"pcr7" is no PCR`,
		`{"sha256":{"7":"0x` + someDigest + `"}}`:   "not 64 hex digits",
		`{"sha256":{"7":"` + someDigest[2:] + `"}}`: "not 64 hex digits",
		`{"sha256":{"7":7}}`:                        "not 64 hex digits",
		`{"sha256":{"7":{}}}`:                       "not 64 hex digits",
		strings.Repeat(" ", 20<<10):                 "bytes",
	} {
		values, err := tpm.ParsePCRs([]byte(document))
		if err == nil {
			t.Errorf("%.80s is taken: %v", document, values)
			continue
		}
		wants(t, err, fault.BadRequest, says, "sealsign doctor --pcr-values")
	}
}

func TestPCRNames(t *testing.T) {
	for want, pcrs := range map[string][]int{"PCR 7": {7}, "PCRs 4 and 7": {4, 7}, "PCRs 4, 7 and 11": {4, 7, 11}} {
		if got := tpm.PCRNames(pcrs); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzPCRs: what is taken comes back as it was read.
func FuzzPCRs(f *testing.F) {
	f.Add([]byte(`{"sha256":{"7":"` + someDigest + `","11":"` + someDigest + `"}}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		values, err := tpm.ParsePCRs(document)
		if err != nil {
			return
		}
		if again, err := tpm.ParsePCRs(values.Document()); err != nil || !maps.Equal(again, values) {
			t.Errorf("%v comes back as %v, %v", values, again, err)
		}
	})
}
