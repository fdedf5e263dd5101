package server

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sealsign/sealsign/agent/keyring"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// schedule puts how a key ages on the wire.
func schedule(key *pb.Key, s *keyring.Schedule) {
	key.Expires, key.RotationDue, key.Rotation = stamp(s.Expires), stamp(s.RotationDue), string(s.Rotation)
	key.LastUsed, key.IdleSince = stamp(s.LastUsed), stamp(s.IdleSince)
}

func (s *admin) ResetTime(ctx context.Context, _ *pb.ResetTimeRequest) (*pb.ResetTimeResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	forgotten, err := s.agent.ResetTime(ctx, who)
	if err != nil {
		return nil, err
	}
	return &pb.ResetTimeResponse{Forgotten: stamp(forgotten)}, nil
}

// stamp is a time on the wire; zero is none.
func stamp(at time.Time) *timestamppb.Timestamp {
	if at.IsZero() {
		return nil
	}
	return timestamppb.New(at)
}
