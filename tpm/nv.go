package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// DefaultNVBase is the handle of NV index 0. It is among the owner's own indexes
// (TCG registry of reserved handles: 0x01800000 to 0x01bfffff).
const DefaultNVBase = 0x01835300

const (
	maxNVIndex  = 0xff // indexes that the base leaves room for
	maxNVSize   = 2048 // bytes: the most that the TPMs seen keep under one index
	counterSize = 8
)

// ErrNVUndefined is the cause of the refusal to use an NV index that isn't there:
// never defined, or removed with the owner's authorization, or the TPM was cleared.
var ErrNVUndefined = errors.New("the NV index is not defined")

// errNVInUse is the cause of the refusal of an index that is something else.
var errNVInUse = errors.New("the NV index is in use for something else")

// An NV index lives in the TPM's flash, under a handle that counts from
// Options.NVBase. Those who define it choose its authorization value; the owner of
// the TPM can remove it, and can't change what it holds.

// counterAttributes: only NV_Increment changes it, and it never goes back, not even by
// being removed and defined again.
var counterAttributes = tpm2.TPMANV{NT: tpm2.TPMNTCounter, AuthRead: true, AuthWrite: true, NoDA: true}

var dataAttributes = tpm2.TPMANV{NT: tpm2.TPMNTOrdinary, AuthRead: true, AuthWrite: true, NoDA: true}

// FreeNVIndex finds an index that nothing uses, and takes it not: who defines it
// first has it.
func (d *Device) FreeNVIndex(ctx context.Context) (uint32, error) {
	for index := range uint32(maxNVIndex + 1) {
		err := d.nv(ctx, "looking for a free NV index", index, nil, func(c *conn, h tpm2.TPMHandle, _ []byte) error {
			_, err := c.nvPublic(h)
			return err
		})
		if errors.Is(err, ErrNVUndefined) {
			return index, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, fault.New(fault.TPMUnavailable, "the %d NV indexes from %#x are all in use", maxNVIndex+1, d.opts.NVBase).
		WithHint("tpm2_getcap handles-nv-index shows them; tpm2_nvundefine removes what nobody needs")
}

// DefineCounter makes a counter, whose first value is above that of any counter
// this TPM has ever had. It does nothing where the counter is there already.
func (d *Device) DefineCounter(ctx context.Context, index uint32, auth []byte) error {
	return d.nv(ctx, "defining a counter", index, auth, func(c *conn, h tpm2.TPMHandle, auth []byte) error {
		i, err := c.nvDefine(h, counterAttributes, counterSize, auth, d.opts.OwnerAuth)
		if err != nil || i.written {
			return err
		}
		return c.nvIncrement(i.object, i, auth) // it can't be read before
	})
}

// ReadCounter gives the counter's value.
func (d *Device) ReadCounter(ctx context.Context, index uint32, auth []byte) (uint64, error) {
	var value uint64
	err := d.nv(ctx, "reading a counter", index, auth, func(c *conn, h tpm2.TPMHandle, auth []byte) error {
		b, err := c.nvRead(h, auth)
		if err == nil && len(b) != counterSize {
			return fault.New(fault.TPMUnavailable, "the NV index %#x is no counter", uint32(h))
		}
		if err == nil {
			value = binary.BigEndian.Uint64(b)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return value, nil
}

// Increment adds one to the counter and gives its new value. When the TPM's
// answer is lost, the counter is read as soon as the TPM is back, and never
// incremented again; TPM_UNAVAILABLE then means that it was not incremented. A caller
// whose context ended doesn't know, and has to read.
func (d *Device) Increment(ctx context.Context, index uint32, auth []byte) (uint64, error) {
	d.counting.Lock()
	defer d.counting.Unlock()
	before, err := d.ReadCounter(ctx, index, auth)
	if err != nil {
		return 0, err
	}
	incremented := d.nvOnce(ctx, "incrementing a counter", index, auth, func(c *conn, h tpm2.TPMHandle, auth []byte) error {
		i, err := c.nvPublic(h)
		if err != nil {
			return err
		}
		return c.nvIncrement(i.object, i, auth)
	})
	if incremented != nil {
		if _, ok := errors.AsType[lostAnswer](incremented); !ok {
			return 0, incremented
		}
		d.awaitTPM(ctx)
	}
	after, err := d.ReadCounter(ctx, index, auth)
	if err != nil {
		return 0, err
	}
	switch {
	case after == before+1:
		return after, nil
	case after == before && incremented != nil:
		return 0, incremented
	}
	return 0, fault.New(fault.TPMUnavailable, "a counter went from %d to %d when it was incremented", before, after).
		WithHint("another program uses NV index %#x: tpm2_nvreadpublic shows it", d.opts.NVBase+index)
}

// awaitTPM waits until a lost TPM has come back, or ctx is over.
func (d *Device) awaitTPM(ctx context.Context) {
	for d.Healthy() != nil && ctx.Err() == nil {
		sleep(ctx, reopenFirst/2)
	}
}

// NVDefine makes room for size bytes of data. It does nothing where they are there
// already.
func (d *Device) NVDefine(ctx context.Context, index uint32, size int, auth []byte) error {
	if size < 1 || size > maxNVSize {
		return fault.New(fault.InternalError, "an NV index of %d bytes", size)
	}
	return d.nv(ctx, "defining an NV index", index, auth, func(c *conn, h tpm2.TPMHandle, auth []byte) error {
		_, err := c.nvDefine(h, dataAttributes, uint16(size), auth, d.opts.OwnerAuth)
		return err
	})
}

// NVWrite writes data from the index's beginning. More than the TPM takes at a time
// (1 KiB on most) is not written as a whole: a power cut may leave it half done.
func (d *Device) NVWrite(ctx context.Context, index uint32, auth, data []byte) error {
	own := slices.Clone(data)
	return d.nv(ctx, "writing an NV index", index, auth, func(c *conn, h tpm2.TPMHandle, auth []byte) error {
		offset := 0
		for chunk := range slices.Chunk(own, c.maxNV) {
			i, err := c.nvPublic(h) // the first write changes the Name
			if err != nil {
				return err
			}
			s, err := c.session(encryptIn)
			if err != nil {
				return err
			}
			if _, err := (tpm2.NVWrite{
				AuthHandle: on(i.object, s.use(auth, encryptIn)),
				NVIndex:    i.named(),
				Data:       tpm2.TPM2BMaxNVBuffer{Buffer: chunk},
				Offset:     uint16(offset),
			}).Execute(c); err != nil {
				return err
			}
			offset += len(chunk)
		}
		return nil
	})
}

// NVRead reads all of the index's data, which is empty while it was never written.
func (d *Device) NVRead(ctx context.Context, index uint32, auth []byte) ([]byte, error) {
	var data []byte
	err := d.nv(ctx, "reading an NV index", index, auth, func(c *conn, h tpm2.TPMHandle, auth []byte) (err error) {
		data, err = c.nvRead(h, auth)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

type nvRun = func(c *conn, h tpm2.TPMHandle, auth []byte) error

func (d *Device) nv(ctx context.Context, doing string, index uint32, auth []byte, run nvRun) error {
	return d.submitNV(&job{ctx: ctx, doing: doing}, index, auth, run)
}

// nvOnce is nv for what must not be done twice.
func (d *Device) nvOnce(ctx context.Context, doing string, index uint32, auth []byte, run nvRun) error {
	return d.submitNV(&job{ctx: ctx, doing: doing, once: true}, index, auth, run)
}

func (d *Device) submitNV(j *job, index uint32, auth []byte, run nvRun) error {
	if index > maxNVIndex {
		return fault.New(fault.InternalError, "there is no NV index %d", index)
	}
	own := slices.Clone(auth)
	j.secrets = [][]byte{own}
	j.run = func(c *conn) error { return run(c, tpm2.TPMHandle(d.opts.NVBase+index), own) }
	return d.submit(j)
}

// nvIndex is an index as the TPM describes it.
type nvIndex struct {
	object
	size    int
	written bool
	kind    tpm2.TPMNT
}

func (i nvIndex) named() tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: i.handle, Name: tpm2.TPM2BName{Buffer: i.name}}
}

func (c *conn) nvPublic(h tpm2.TPMHandle) (nvIndex, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: h}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nvIndex{}, fault.New(fault.TPMUnavailable, "the NV index %#x is gone from the TPM, or was never there", uint32(h)).
			WithHint("if nobody removed it, the TPM was cleared or is another one").Because(ErrNVUndefined)
	}
	if err != nil {
		return nvIndex{}, err
	}
	public, err := rsp.NVPublic.Contents()
	if err != nil {
		return nvIndex{}, err
	}
	return nvIndex{
		object:  object{handle: h, name: name(rsp.NVPublic.Bytes())},
		size:    int(public.DataSize),
		written: public.Attributes.Written,
		kind:    public.Attributes.NT,
	}, nil
}

// nvDefine makes an index, or finds the one that was made before.
func (c *conn) nvDefine(h tpm2.TPMHandle, a tpm2.TPMANV, size uint16, auth, ownerAuth []byte) (nvIndex, error) {
	i, err := c.nvPublic(h)
	if err == nil && (i.kind != a.NT || i.size != int(size)) {
		return i, fault.New(fault.TPMUnavailable, "the NV index %#x is in use for something else", uint32(h)).
			WithHint("tpm2_nvreadpublic shows what for; tpm2_nvundefine %#x removes it", uint32(h)).Because(errNVInUse)
	}
	if !errors.Is(err, ErrNVUndefined) {
		return i, err
	}
	s, err := c.session(encryptIn)
	if err != nil {
		return i, err
	}
	_, err = tpm2.NVDefineSpace{
		AuthHandle: on(owner, s.use(ownerAuth, encryptIn)),
		Auth:       tpm2.TPM2BAuth{Buffer: auth},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: h, NameAlg: tpm2.TPMAlgSHA256, Attributes: a, DataSize: size}),
	}.Execute(c)
	if err != nil {
		return i, explainHierarchy("owner", err)
	}
	return c.nvPublic(h)
}

// nvIncrement increments a counter with the authorization of by: itself, or the owner.
func (c *conn) nvIncrement(by object, i nvIndex, auth []byte) error {
	s, err := c.session(encryptNone)
	if err != nil {
		return err
	}
	_, err = tpm2.NVIncrement{AuthHandle: on(by, s.use(auth, encryptNone)), NVIndex: i.named()}.Execute(c)
	return err
}

func (c *conn) nvRead(h tpm2.TPMHandle, auth []byte) ([]byte, error) {
	i, err := c.nvPublic(h)
	if err != nil || !i.written {
		return nil, err
	}
	data := make([]byte, 0, i.size)
	for len(data) < i.size {
		s, err := c.session(encryptOut)
		if err != nil {
			return nil, err
		}
		rsp, err := tpm2.NVRead{
			AuthHandle: on(i.object, s.use(auth, encryptOut)),
			NVIndex:    i.named(),
			Size:       uint16(min(i.size-len(data), c.maxNV)),
			Offset:     uint16(len(data)),
		}.Execute(c)
		if err != nil {
			return nil, err
		}
		if len(rsp.Data.Buffer) == 0 {
			return nil, errShort("an NV index")
		}
		data = append(data, rsp.Data.Buffer...)
	}
	return data, nil
}
