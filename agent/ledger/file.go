package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
)

const (
	header     = "sealsign ledger 2\n" // of what is written
	headerName = "sealsign ledger "
	// prefixSize is that of an entry's length and checksum, fixedSize that of its kind and mark.
	prefixSize = 8
	fixedSize  = 9
	// maxName bounds a name: two config names and a path between them are far shorter.
	maxName = 1024
)

// kindsOf has the headers that are read, and which kinds of entries may be below each.
var kindsOf = map[string]string{
	"sealsign ledger 1\n": "nl",
	header:                "nltu",
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendEntry appends one entry to dst.
func appendEntry(dst []byte, k id, mark uint64) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(fixedSize+len(k.name)))
	dst = append(dst, 0, 0, 0, 0, byte(k.kind))
	dst = binary.LittleEndian.AppendUint64(dst, mark)
	dst = append(dst, k.name...)
	binary.LittleEndian.PutUint32(dst[start+4:], checksum(dst[start:]))
	return dst
}

// checksum is that of the entry which begins at entry and ends with it.
func checksum(entry []byte) uint32 {
	return crc32.Update(crc32.Checksum(entry[:4], castagnoli), castagnoli, entry[prefixSize:])
}

// nextEntry reads the entry of one of the kinds that data begins with; size is its
// length, 0 if there is none.
func nextEntry(data []byte, kinds string) (k id, mark uint64, size int) {
	if len(data) < prefixSize+fixedSize+1 {
		return id{}, 0, 0
	}
	n := int(binary.LittleEndian.Uint32(data))
	if n <= fixedSize || n > fixedSize+maxName || prefixSize+n > len(data) {
		return id{}, 0, 0
	}
	entry := data[:prefixSize+n]
	if binary.LittleEndian.Uint32(entry[4:]) != checksum(entry) {
		return id{}, 0, 0
	}
	k = id{kind(entry[prefixSize]), string(entry[prefixSize+fixedSize:])}
	mark = binary.LittleEndian.Uint64(entry[prefixSize+1:])
	if strings.IndexByte(kinds, byte(k.kind)) < 0 || mark > math.MaxInt64 {
		return id{}, 0, 0
	}
	return k, mark, len(entry)
}

var errFormat = errors.New("a newer version of sealsign wrote it")

// parse reads a whole file. What lies from end on is a torn tail.
func parse(data []byte) (marks map[id]uint64, end int, err error) {
	kinds, known := kindsOf[string(data[:min(len(data), len(header))])] // all headers are as long
	if !known {
		line, _, _ := strings.Cut(string(data[:min(len(data), 64)]), "\n")
		if strings.HasPrefix(line, headerName) && len(line) > len(headerName) {
			return nil, 0, fmt.Errorf("its format is %q: %w", line[len(headerName):], errFormat)
		}
		return nil, 0, errors.New("it does not begin as a ledger does")
	}
	marks = make(map[id]uint64)
	for end = len(header); end < len(data); {
		k, mark, size := nextEntry(data[end:], kinds)
		if size == 0 {
			break
		}
		marks[k] = max(marks[k], mark)
		end += size
	}
	for at := end + 1; at < len(data); at++ {
		if _, _, size := nextEntry(data[at:], kinds); size > 0 {
			return nil, 0, fmt.Errorf("damaged at byte %d, with whole entries behind it", end)
		}
	}
	return marks, end, nil
}
