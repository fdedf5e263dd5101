package server

import (
	"cmp"
	"context"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/build"
	"github.com/sealsign/sealsign/internal/fault"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// admin is what admin.sock serves.
type admin struct {
	pb.UnimplementedAdminServer
	*Server
}

func (s *admin) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	status := s.agent.Status()
	return &pb.StatusResponse{
		Version: build.Version(), Environment: status.Environment, StartedAt: timestamppb.New(status.StartedAt), Memory: status.Memory,
		Config: configStatus(&status),
		Tpm: &pb.TPMStatus{
			Ok: status.TPMError == nil, Error: textOf(status.TPMError), Device: status.TPM.Device, Manufacturer: status.TPM.Manufacturer,
			Firmware: status.TPM.Firmware, Software: status.TPM.Software, Can: status.TPM.Can,
		},
		Audit: auditStatus(&status),
		Store: &pb.StoreStatus{
			Ok: status.StoreError == nil, Error: textOf(cmp.Or(status.StoreError, status.AnchorError)), Anchored: status.AnchorError == nil,
			Ending: textOf(status.EndingError),
		},
		Keys: keysOf(status.Keys),
	}, nil
}

func (s *admin) ListKeys(_ context.Context, request *pb.AdminListKeysRequest) (*pb.AdminListKeysResponse, error) {
	infos, err := s.agent.Keys(request.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.AdminListKeysResponse{Keys: keysOf(infos)}, nil
}

func (s *admin) ImportKey(ctx context.Context, request *pb.ImportKeyRequest) (*pb.ImportKeyResponse, error) {
	defer clear(request.GetCredential())
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	version, err := s.imports(ctx, who, request)
	if err != nil {
		return nil, err
	}
	keys, err := s.keys(request.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.ImportKeyResponse{Version: number(version), Key: keys[0]}, nil
}

func (s *admin) GenerateKey(ctx context.Context, request *pb.GenerateKeyRequest) (*pb.GenerateKeyResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	version, public, register, err := s.agent.Generate(ctx, who, request.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.GenerateKeyResponse{Version: number(version), PublicKey: string(public), RegisterAt: register}, nil
}

func (s *admin) RecoverStore(ctx context.Context, _ *pb.RecoverStoreRequest) (*pb.RecoverStoreResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	recovered, err := s.agent.RecoverStore(ctx, who)
	if err != nil {
		return nil, err
	}
	answer := new(pb.RecoverStoreResponse)
	for _, k := range recovered {
		answer.Keys = append(answer.Keys, &pb.RecoveredKey{Name: k.Name, Pending: numbers(k.Pending), Revoked: numbers(k.Revoked)})
	}
	return answer, nil
}

func numbers(versions []int) []uint32 {
	all := make([]uint32, len(versions))
	for i, n := range versions {
		all[i] = number(n)
	}
	return all
}

func (s *admin) PublicKey(_ context.Context, request *pb.PublicKeyRequest) (*pb.PublicKeyResponse, error) {
	version, public, err := s.agent.PublicKey(request.GetName(), int(request.GetVersion()))
	if err != nil {
		return nil, err
	}
	return &pb.PublicKeyResponse{Version: number(version), PublicKey: string(public)}, nil
}

func (s *admin) SuspendKeys(ctx context.Context, request *pb.SuspendKeysRequest) (*pb.KeysResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := oneOrAll(request.GetName(), request.GetAll()); err != nil {
		return nil, err
	}
	return s.keysAfter(request.GetName(), s.agent.Suspend(ctx, who, request.GetName(), request.GetCancelOnly()))
}

func (s *admin) ResumeKeys(ctx context.Context, request *pb.ResumeKeysRequest) (*pb.KeysResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := oneOrAll(request.GetName(), request.GetAll()); err != nil {
		return nil, err
	}
	return s.keysAfter(request.GetName(), s.agent.Resume(ctx, who, request.GetName()))
}

func (s *admin) RevokeKey(ctx context.Context, request *pb.RevokeKeyRequest) (*pb.KeysResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if (request.GetVersion() == 0) != request.GetAll() {
		return nil, fault.New(fault.BadRequest, "name one version of %s, or say all", request.GetName()).WithHint("sealsign key show %s", request.GetName())
	}
	return s.keysAfter(request.GetName(), s.agent.Revoke(ctx, who, request.GetName(), int(request.GetVersion())))
}

func (s *admin) RevokeAllKeys(ctx context.Context, _ *pb.RevokeAllKeysRequest) (*pb.RevokeAllKeysResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	outside, err := s.agent.RevokeAll(ctx, who)
	if err != nil {
		return nil, err
	}
	keys, err := s.keys("")
	return &pb.RevokeAllKeysResponse{Keys: keys, Outside: outside}, err
}

func (s *admin) RebindKey(ctx context.Context, request *pb.RebindKeyRequest) (*pb.KeysResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	return s.keysAfter(request.GetName(), s.agent.Rebind(ctx, who, request.GetName()))
}

func (s *admin) ResealKeys(ctx context.Context, request *pb.ResealKeysRequest) (*pb.ResealKeysResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := oneOrAll(request.GetName(), request.GetAll()); err != nil {
		return nil, err
	}
	resealed, err := s.agent.Reseal(ctx, who, request.GetName(), request.GetPcrValues())
	if err != nil {
		return nil, err
	}
	answer := new(pb.ResealKeysResponse)
	for _, one := range resealed {
		version := &pb.ResealedVersion{Name: one.Key, Version: number(one.Version), Pcrs: numbers(one.PCRs), Predicted: one.Predicted}
		if one.Problem != nil {
			version.Reason, version.Problem, version.Next = string(one.Problem.Reason), one.Problem.Message, one.Problem.Hint
		}
		answer.Versions = append(answer.Versions, version)
	}
	return answer, nil
}

func (s *admin) PCRValues(ctx context.Context, _ *pb.PCRValuesRequest) (*pb.PCRValuesResponse, error) {
	document, err := s.agent.PCRValues(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.PCRValuesResponse{Document: document}, nil
}

// Reload tells of a bad config in its answer; an error is that the reload could not be recorded.
func (s *admin) Reload(_ context.Context, _ *pb.ReloadRequest) (*pb.ReloadResponse, error) {
	err := s.agent.Reload()
	status := s.agent.Status()
	if status.ConfigError == nil && err != nil {
		return nil, err
	}
	return &pb.ReloadResponse{Config: configStatus(&status)}, nil
}

func (s *admin) Checkpoint(ctx context.Context, _ *pb.CheckpointRequest) (*pb.CheckpointResponse, error) {
	note, err := s.agent.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.CheckpointResponse{Checkpoint: note}, nil
}

func (s *admin) AuditPublicKey(context.Context, *pb.AuditPublicKeyRequest) (*pb.AuditPublicKeyResponse, error) {
	public, verifier, err := s.agent.AuditPublicKey()
	if err != nil {
		return nil, err
	}
	return &pb.AuditPublicKeyResponse{PublicKey: string(public), VerifierKey: verifier}, nil
}

func (s *admin) TestPolicy(_ context.Context, request *pb.TestPolicyRequest) (*pb.TestPolicyResponse, error) {
	ask, err := testedAsk(request)
	if err != nil {
		return nil, err
	}
	judgement := s.agent.TestPolicy(request.GetCaller(), ask)
	answer := &pb.TestPolicyResponse{Allowed: judgement.Refusal == nil, Rule: judgement.Rule, Key: judgement.Key}
	for i := range judgement.Effects {
		answer.Effects = append(answer.Effects, effectText(&judgement.Effects[i]))
	}
	if refusal := judgement.Refusal; refusal != nil {
		answer.Reason, answer.Message, answer.Hint = string(refusal.Reason), refusal.Message, refusal.Hint
	}
	return answer, nil
}

// testedAsk reads the request whose decision is to be foretold as Sign reads one.
func testedAsk(request *pb.TestPolicyRequest) (*agent.Ask, error) {
	asked := &pb.SignRequest{Key: request.GetKey(), Method: request.GetMethod(), Url: request.GetUrl(), Body: request.GetBody()}
	for _, line := range request.GetHeaders() {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fault.New(fault.BadRequest, "a header is not NAME: VALUE")
		}
		asked.Headers = append(asked.Headers, &pb.Header{Name: name, Value: strings.TrimSpace(value)})
	}
	ask, err := askOf(asked)
	if err != nil {
		return nil, err
	}
	if !request.GetRelease() {
		ask.Mode = policy.Forward
	}
	return ask, nil
}

// effectText says what a request would do in one line.
func effectText(e *venue.Effect) string {
	words := []string{string(e.Operation)}
	for _, part := range []struct{ name, value string }{
		{"", e.Symbol}, {"", e.Side}, {"", e.Type}, {"quantity", e.Quantity}, {"for", e.QuoteQuantity}, {"price", e.Price},
		{"client-order-id", e.ClientOrderID}, {"asset", e.Asset}, {"network", e.Network}, {"address", e.Address}, {"tag", e.Tag},
	} {
		if part.value == "" {
			continue
		}
		if part.name != "" {
			words = append(words, part.name)
		}
		words = append(words, part.value)
	}
	return strings.Join(words, " ")
}

func (s *admin) Doctor(ctx context.Context, _ *pb.DoctorRequest) (*pb.DoctorResponse, error) {
	answer := new(pb.DoctorResponse)
	for _, f := range s.agent.Doctor(ctx) {
		answer.Findings = append(answer.Findings, &pb.Finding{Area: f.Area, Level: f.Level, What: f.What, Next: f.Next})
	}
	return answer, nil
}

// keysAfter tells how the keys are after an act, if it was done.
func (s *admin) keysAfter(name string, err error) (*pb.KeysResponse, error) {
	if err != nil {
		return nil, err
	}
	keys, err := s.keys(name)
	if err != nil {
		return nil, err
	}
	return &pb.KeysResponse{Keys: keys}, nil
}

func (s *admin) keys(name string) ([]*pb.Key, error) {
	infos, err := s.agent.Keys(name)
	return keysOf(infos), err
}

// oneOrAll makes sure that all keys are meant where none is named.
func oneOrAll(name string, all bool) error {
	if (name == "") != all {
		return fault.New(fault.BadRequest, "name one key, or say all").WithHint("sealsign key list")
	}
	return nil
}

func keysOf(infos []keyring.Info) []*pb.Key {
	keys := make([]*pb.Key, 0, len(infos))
	for _, info := range infos {
		key := &pb.Key{
			Name: info.Name, Venue: info.Venue, Environment: info.Environment, Algorithm: info.Algorithm, Protection: info.Protection,
			State: info.State, Wanted: number(info.Wanted), Active: number(info.Active),
			Problem: info.Problem, Next: info.Next, Reason: string(info.Reason), RightsProblem: info.RightsProblem,
		}
		schedule(key, &info.Schedule)
		for _, version := range info.Versions {
			v := &pb.KeyVersion{Version: number(version.Version), State: string(version.State), Origin: version.Origin, Rights: rightsOf(version.Rights)}
			if !version.ImportedAt.IsZero() {
				v.ImportedAt = timestamppb.New(version.ImportedAt)
			}
			if !version.DrainsUntil.IsZero() {
				v.DrainsUntil = timestamppb.New(version.DrainsUntil)
			}
			if version.State != keyring.Revoked {
				v.Expires = key.GetExpires()
			}
			key.Versions = append(key.Versions, v)
		}
		keys = append(keys, key)
	}
	return keys
}

func rightsOf(rights *keyring.Rights) *pb.Rights {
	if rights == nil {
		return nil
	}
	answer := &pb.Rights{Withdraw: rights.Withdraw, IpList: rights.IPList, ReadAt: timestamppb.New(rights.ReadAt)}
	if !rights.Expires.IsZero() {
		answer.Expires = timestamppb.New(rights.Expires)
	}
	return answer
}

func configStatus(s *agent.Status) *pb.ConfigStatus {
	return &pb.ConfigStatus{
		Ok: s.ConfigError == nil, Error: textOf(s.ConfigError), LoadedAt: timestamppb.New(s.LoadedAt), Path: s.ConfigPath, Warnings: s.Warnings,
		Hint: hintOf(s.ConfigError),
	}
}

func auditStatus(s *agent.Status) *pb.AuditStatus {
	status := &pb.AuditStatus{
		Ok: s.Audit.Problem == nil, Error: textOf(s.Audit.Problem), Records: s.Audit.Records, CheckpointRecords: s.Audit.Covered, Sync: s.Audit.Sync,
	}
	if s.Audit.Problem == nil && s.Audit.CheckpointProblem != nil {
		status.Error = "no checkpoint: " + s.Audit.CheckpointProblem.Error()
	}
	if !s.Audit.CheckpointAt.IsZero() {
		status.CheckpointAt = timestamppb.New(s.Audit.CheckpointAt)
	}
	return status
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func hintOf(err error) string {
	if err == nil {
		return ""
	}
	return fault.From(err).Hint
}

// number is a version on the wire.
func number(n int) uint32 { return uint32(n) } //nolint:gosec // versions count imports
