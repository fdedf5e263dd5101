package server

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// signer is what agent.sock serves.
type signer struct {
	pb.UnimplementedSignerServer
	*Server
}

func (s *signer) Sign(ctx context.Context, request *pb.SignRequest) (*pb.SignResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	return s.sign(ctx, who, request)
}

func (s *signer) Login(ctx context.Context, request *pb.LoginRequest) (*pb.LoginResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := s.agent.Do(ctx, who, &agent.Ask{Key: request.GetKey(), Mode: policy.Login, Channel: request.GetChannel()})
	if err != nil {
		return nil, err
	}
	return &pb.LoginResponse{
		Message:    answer.Message,
		Url:        answer.LoginURL,
		KeyVersion: number(answer.Version),
		RecordId:   recordID(answer.Record),
	}, nil
}

func (s *signer) ListKeys(ctx context.Context, _ *pb.ListKeysRequest) (*pb.ListKeysResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	granted, err := s.agent.Granted(who)
	if err != nil {
		return nil, err
	}
	answer := new(pb.ListKeysResponse)
	for _, g := range granted {
		key := &pb.GrantedKey{Name: g.Name, Venue: g.Venue, Environment: g.Environment, State: g.State, Hosts: g.Hosts}
		for _, role := range g.Roles {
			key.Grants = append(key.Grants, grantOf(role))
		}
		answer.Keys = append(answer.Keys, key)
	}
	return answer, nil
}

// ratePeriods are those that a rate can have, as the config writes them.
var ratePeriods = map[time.Duration]string{time.Second: "s", time.Minute: "m", time.Hour: "h", 24 * time.Hour: "d"}

func grantOf(role *policy.Role) *pb.Grant {
	grant := &pb.Grant{Role: role.Name, Symbols: slices.Sorted(maps.Keys(role.Symbols)), Release: string(role.Release)}
	for operation := range role.Allow {
		grant.Allow = append(grant.Allow, string(operation))
	}
	for line := range role.Lines {
		grant.Allow = append(grant.Allow, line.Method+" "+line.Path)
	}
	slices.Sort(grant.Allow)
	if role.Rate.Count > 0 {
		grant.Rate = strconv.Itoa(role.Rate.Count) + "/" + ratePeriods[role.Rate.Per]
	}
	return grant
}

// sign is one request of Sign and of SignStream.
func (s *Server) sign(ctx context.Context, who *caller.Caller, request *pb.SignRequest) (_ *pb.SignResponse, err error) {
	defer s.caught(&err)
	ask, err := askOf(request)
	if err != nil {
		return nil, s.refuse(who, ask, err)
	}
	answer, err := s.agent.Do(ctx, who, ask)
	if err != nil {
		return nil, err
	}
	signed := answer.Signed
	defer signed.Wipe() // the answer has copies
	return &pb.SignResponse{
		Id:         request.GetId(),
		Method:     signed.Method,
		Url:        urlOf(signed),
		Headers:    headersOf(signed),
		Body:       signed.Body,
		KeyVersion: number(answer.Version),
		RecordId:   recordID(answer.Record),
	}, nil
}

// askOf reads a request. With an error, the ask has what could be read, for the record.
func askOf(request *pb.SignRequest) (*agent.Ask, error) {
	ask := &agent.Ask{Key: request.GetKey(), Mode: policy.Release}
	ask.Request.Method = request.GetMethod()
	contentType, err := readHeaders(ask, request.GetHeaders())
	if err != nil {
		return ask, err
	}
	if len(request.GetBody()) > maxBody {
		return ask, tooLong()
	}
	host, target, err := venue.ParseURL(request.GetUrl())
	if err != nil {
		return ask, err
	}
	ask.Request.Host = host
	read, err := venue.NewRequest(request.GetMethod(), host, target, contentType, request.GetBody())
	if err != nil {
		return ask, err
	}
	ask.Request = read
	return ask, nil
}

// readHeaders takes the app's headers in the form that HTTP has for them.
func readHeaders(ask *agent.Ask, headers []*pb.Header) (contentType string, _ error) {
	if len(headers) > maxFields {
		return "", fault.New(fault.BadRequest, "more than %d headers", maxFields)
	}
	ask.Header = make([]venue.Field, 0, len(headers))
	size, found := 0, false
	for _, header := range headers {
		name, value := header.GetName(), header.GetValue()
		if size += len(name) + len(value); size > maxHead {
			return "", fault.New(fault.BadRequest, "the headers are longer than %d KiB", maxHead>>10)
		}
		if !isToken(name) || !isFieldValue(value) {
			return "", fault.New(fault.BadRequest, "a header's name or value can't be in an HTTP header")
		}
		if strings.EqualFold(name, "Content-Type") {
			if found {
				return "", fault.New(fault.BadRequest, "the header Content-Type is there twice")
			}
			contentType, found = value, true
		}
		ask.Header = append(ask.Header, venue.Field{Name: name, Value: []byte(value)})
	}
	return contentType, nil
}

func urlOf(signed *venue.Signed) string {
	if signed.Query == "" {
		return "https://" + signed.Host + signed.Path
	}
	return "https://" + signed.Host + signed.Path + "?" + signed.Query
}

// headersOf copies the header in three allocations, however long it is.
func headersOf(signed *venue.Signed) []*pb.Header {
	size := 0
	for i := range signed.Header {
		size += len(signed.Header[i].Value)
	}
	var values strings.Builder
	values.Grow(size)
	all := make([]pb.Header, len(signed.Header))
	headers := make([]*pb.Header, len(all))
	for i := range signed.Header {
		from := values.Len()
		values.Write(signed.Header[i].Value)
		all[i].Name, all[i].Value = signed.Header[i].Name, values.String()[from:]
		headers[i] = &all[i]
	}
	return headers
}

func recordID(id uint64) string { return strconv.FormatUint(id, 10) }
