package server

import (
	"context"

	"github.com/sealsign/sealsign/agent"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (s *admin) ShowPCRs(ctx context.Context, _ *pb.ShowPCRsRequest) (*pb.PCRState, error) {
	state, err := s.agent.PCRs(ctx)
	return pcrState(&state), err
}

func (s *admin) InstallApproval(ctx context.Context, request *pb.InstallApprovalRequest) (*pb.PCRState, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.agent.InstallApproval(ctx, who, request.GetApproval()); err != nil {
		return nil, err
	}
	return s.ShowPCRs(ctx, nil)
}

func pcrState(state *agent.PCRState) *pb.PCRState {
	answer := &pb.PCRState{
		Host: state.Host, HostId: state.HostID, Authority: state.Authority, Problem: textOf(state.Problem), Next: hintOf(state.Problem),
		Pcrs: make(map[uint32]string, len(state.PCRs)),
	}
	for pcr, value := range state.PCRs {
		answer.Pcrs[number(pcr)] = value.String()
	}
	return answer
}
