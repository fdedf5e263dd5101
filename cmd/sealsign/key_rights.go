package main

import (
	"time"

	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// rightsJSON is what a version may do at its venue, as scripts read it. null: the
// venue doesn't say.
type rightsJSON struct {
	Withdraw *bool      `json:"withdraw"`
	IPList   *bool      `json:"ip_list"`
	Expires  *time.Time `json:"expires"`
	ReadAt   *time.Time `json:"read_at"`
}

func rightsToJSON(rights *sealsignv1.Rights) *rightsJSON {
	if rights == nil {
		return nil
	}
	return &rightsJSON{rights.Withdraw, rights.IpList, timeOf(rights.GetExpires()), timeOf(rights.GetReadAt())}
}

// rightsText is what a version may do at its venue, in words. Empty: not known.
func rightsText(rights *sealsignv1.Rights) string {
	if rights == nil {
		return ""
	}
	var ends string
	if rights.GetExpires() != nil {
		ends = "ends " + timeText(rights.GetExpires())
	}
	return joined(", ",
		answerText(rights.Withdraw, "can withdraw", "can't withdraw"),
		answerText(rights.IpList, "listed addresses only", "good from every address"), ends)
}

func answerText(answer *bool, yes, no string) string {
	if answer == nil {
		return ""
	}
	return either(*answer, yes, no)
}

// rightsConcern is what the version that signs may do at its venue, where that is
// more than reading and trading from a few addresses, or not known.
func rightsConcern(key *sealsignv1.Key) string {
	if key.GetRightsProblem() != "" {
		return "what it may do at its venue is not known: " + key.GetRightsProblem()
	}
	for _, v := range key.GetVersions() {
		rights := v.GetRights()
		concerns := rights.GetWithdraw() || rights != nil && rights.IpList != nil && !rights.GetIpList() || rights.GetExpires() != nil
		if v.GetVersion() == key.GetActive() && concerns {
			return "at its venue: " + rightsText(rights)
		}
	}
	return ""
}
