package tpm_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// The NV indexes that tests use, and their authorization value.
const (
	counterIndex = 1
	dataIndex    = 2
	noIndex      = 3
)

var nvAuth = bytes.Repeat([]byte{7, 0}, 16)

func testCounter(t *testing.T, o tpm.Options) {
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	for range 2 { // the second finds it
		if err := d.DefineCounter(t.Context(), counterIndex, nvAuth); err != nil {
			t.Fatal(err)
		}
	}
	first := must[uint64](t)(d.ReadCounter(t.Context(), counterIndex, nvAuth))
	for i := range uint64(3) {
		if got := must[uint64](t)(d.Increment(t.Context(), counterIndex, nvAuth)); got != first+i+1 {
			t.Errorf("increment %d gives %d, the counter was %d", i+1, got, first)
		}
	}
	shut(t, d)
	d = open(t, o)
	if got := must[uint64](t)(d.ReadCounter(t.Context(), counterIndex, nvAuth)); got != first+3 {
		t.Errorf("after opening again it is %d, want %d", got, first+3)
	}
	_, err := d.Increment(t.Context(), counterIndex, bytes.Repeat([]byte{1}, 32))
	wants(t, err, fault.KeyDamaged, "authorization")
	_, err = d.ReadCounter(t.Context(), noIndex, nvAuth)
	wants(t, err, fault.TPMUnavailable, "0x1835303")
	if !errors.Is(err, tpm.ErrNVUndefined) {
		t.Errorf("%v doesn't tell that the index isn't there", err)
	}
	err = d.NVDefine(t.Context(), counterIndex, 32, nvAuth)
	wants(t, err, fault.TPMUnavailable, "in use", "tpm2_nvundefine")
}

func testNVData(t *testing.T, o tpm.Options) {
	d := open(t, o)
	const size = 1500 // more than one command takes
	for range 2 {
		if err := d.NVDefine(t.Context(), dataIndex, size, nvAuth); err != nil {
			t.Fatal(err)
		}
	}
	data := random(t, size)
	if err := d.NVWrite(t.Context(), dataIndex, nvAuth, data); err != nil {
		t.Fatal(err)
	}
	if got := must[[]byte](t)(d.NVRead(t.Context(), dataIndex, nvAuth)); !bytes.Equal(got, data) {
		t.Error("it isn't read as it was written")
	}
	if err := d.NVWrite(t.Context(), dataIndex, nvAuth, make([]byte, size+1)); err == nil {
		t.Error("more bytes are written than there is room for")
	}
	if err := d.NVDefine(t.Context(), dataIndex, 1<<20, nvAuth); err == nil {
		t.Error("a megabyte is defined")
	}
}
