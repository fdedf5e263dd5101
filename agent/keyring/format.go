package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// stateFormat is the format of version files and of the manifest that this code
// writes. It reads no newer one, and the one before it. Format 1 had no parents.
const stateFormat = 2

// errNewer: nothing is wrong with it but its reader.
var errNewer = errors.New("a newer sealsign wrote it")

const newerHint = "run that version of sealsignd, or a newer one"

// decodeState reads JSON of the store that has a "format".
func decodeState(data []byte, into any) error {
	var head struct{ Format int }
	if err := json.Unmarshal(data, &head); err != nil {
		return errors.New("its JSON is cut short or damaged")
	}
	if head.Format > stateFormat {
		return fmt.Errorf("it has format %d: %w", head.Format, errNewer)
	}
	if head.Format < stateFormat-1 {
		return fmt.Errorf("it has format %d, and this sealsign knows the formats from %d to %d", head.Format, stateFormat-1, stateFormat)
	}
	return strictJSON(data, into)
}

// strictJSON takes no unknown field and nothing after the value.
func strictJSON(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("its JSON is not as it was written: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows its JSON")
	}
	return nil
}
