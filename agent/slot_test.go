package agent

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
)

// One at a time, cancels first, the others in the order in which they came.
func TestSlotOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slot
		if err := s.take(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, waiting := range []string{"first", "second", "cancel", "cancel too"} {
			go func() {
				if err := s.take(t.Context(), waiting[0] == 'c'); err != nil {
					t.Error(err)
				}
				order = append(order, waiting)
				s.free()
			}()
			synctest.Wait()
		}
		s.free()
		synctest.Wait()
		if want := []string{"cancel", "cancel too", "first", "second"}; !slices.Equal(order, want) {
			t.Errorf("the order is %v, want %v", order, want)
		}
		if s.taken {
			t.Error("the slot isn't free in the end")
		}
	})
}

// Who leaves while waiting is in nobody's way, and who leaves as the turn comes hands it on.
func TestSlotOfWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slot
		if err := s.take(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		leaving, leave := context.WithCancel(t.Context())
		for range 50 {
			go func() {
				if s.take(leaving, false) == nil {
					s.free()
				}
			}()
		}
		synctest.Wait()
		took := false
		go func() {
			if err := s.take(t.Context(), false); err != nil {
				t.Error(err)
			}
			took = true
			s.free()
		}()
		synctest.Wait()
		go leave()
		s.free()
		synctest.Wait()
		if !took || s.taken || len(s.others) > 0 {
			t.Errorf("who stayed has had it: %v; it is taken: %v; %d wait", took, s.taken, len(s.others))
		}
	})
}
