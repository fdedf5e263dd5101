package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sealsign/sealsign/agent/caller"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// imports imports a credential, or one that was wrapped elsewhere.
func (s *admin) imports(ctx context.Context, who *caller.Caller, request *pb.ImportKeyRequest) (version int, err error) {
	if wrapped := request.GetWrapped(); len(wrapped) > 0 {
		return s.agent.ImportWrapped(ctx, who, request.GetName(), wrapped)
	}
	return s.agent.Import(ctx, who, request.GetName(), request.GetCredential())
}

func (s *admin) HostKey(ctx context.Context, _ *pb.HostKeyRequest) (*pb.HostKeyResponse, error) {
	document, err := s.agent.HostKey(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.HostKeyResponse{Document: string(document)}, nil
}

func (s *admin) EnrollImporter(ctx context.Context, request *pb.EnrollImporterRequest) (*pb.ImportersResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	return s.importersAfter(s.agent.EnrollImporter(who, request.GetName(), []byte(request.GetPublicKey())))
}

func (s *admin) ListImporters(context.Context, *pb.ListImportersRequest) (*pb.ImportersResponse, error) {
	return s.importersAfter(nil)
}

func (s *admin) RemoveImporter(ctx context.Context, request *pb.RemoveImporterRequest) (*pb.ImportersResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	return s.importersAfter(s.agent.RemoveImporter(who, request.GetName()))
}

// importersAfter tells who is enrolled after an act, if it was done.
func (s *admin) importersAfter(err error) (*pb.ImportersResponse, error) {
	if err != nil {
		return nil, err
	}
	answer := new(pb.ImportersResponse)
	for _, i := range s.agent.Importers() {
		answer.Importers = append(answer.Importers, &pb.Importer{
			Name: i.Name, PublicKey: i.PublicKey, Fingerprint: i.Fingerprint(), EnrolledAt: timestamppb.New(i.EnrolledAt),
		})
	}
	return answer, nil
}
