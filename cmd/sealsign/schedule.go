package main

import (
	"time"

	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// scheduleJSON is how a key ages, as a part of keyJSON.
type scheduleJSON struct {
	Expires     *time.Time `json:"expires"`      // it signs nothing from then on
	RotationDue *time.Time `json:"rotation_due"` // by max_age
	Rotation    string     `json:"rotation"`     // "", "soon" or "due"
	LastUsed    *time.Time `json:"last_used"`
	IdleSince   *time.Time `json:"idle_since"` // null: it is in use
}

func scheduleToJSON(key *sealsignv1.Key) scheduleJSON {
	return scheduleJSON{
		Expires: timeOf(key.GetExpires()), RotationDue: timeOf(key.GetRotationDue()), Rotation: key.GetRotation(),
		LastUsed: timeOf(key.GetLastUsed()), IdleSince: timeOf(key.GetIdleSince()),
	}
}

// rotationText says when the rotation is due, and whether that is now.
func rotationText(key *sealsignv1.Key) string {
	due := timeText(key.GetRotationDue())
	switch key.GetRotation() {
	case "due":
		return "due since " + due
	case "soon":
		return "due soon, at " + due
	}
	return either(due != "", "due at "+due, "")
}

// scheduleText is what a list says of how a key ages; empty: nothing.
func scheduleText(key *sealsignv1.Key) string {
	var expires, rotation, idle string
	if at := timeText(key.GetExpires()); at != "" && key.GetState() != "expired" { // which its problem tells
		expires = "expires at " + at
	}
	if text := rotationText(key); text != "" {
		rotation = "rotation " + text
	}
	if since := timeText(key.GetIdleSince()); since != "" {
		idle = "idle since " + since
	}
	return joined(", ", expires, rotation, idle)
}
