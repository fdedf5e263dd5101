package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxRate bounds the count of a rate: more than any venue or TPM takes, and few
// enough that a day divided by it is still a time.
const maxRate = 1_000_000

var ratePeriods = map[string]time.Duration{
	"s": time.Second,
	"m": time.Minute,
	"h": time.Hour,
	"d": 24 * time.Hour,
}

// ParseRate reads a rate as the config writes it: "50/s", "3000/m", "100/h", "1000/d".
func ParseRate(text string) (Rate, error) {
	count, period, _ := strings.Cut(text, "/")
	per, known := ratePeriods[period]
	n, err := strconv.ParseUint(count, 10, 32)
	if !known || err != nil || n < 1 || n > maxRate {
		return Rate{}, fmt.Errorf(`%s is not a rate: write a count up to %d, "/", and s, m, h or d, as in "50/s"`, quote(text), maxRate)
	}
	return Rate{Count: int(n), Per: per}, nil
}
