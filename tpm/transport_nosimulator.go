//go:build !simulator

package tpm

import "errors"

func dialSimulator() (Transport, error) {
	return nil, errors.New("the simulator is not in this build: it is in development builds only (-tags simulator)")
}
