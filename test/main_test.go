//go:build integration

package test

import (
	"testing"

	"github.com/sealsign/sealsign/internal/daemontest"
)

func TestMain(m *testing.M) { daemontest.Main(m) }
