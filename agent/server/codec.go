package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one is around
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/sealsign/sealsign/internal/fault"
)

// codec is protobuf with two differences. A message that can't be read gets a
// refusal of ours: gRPC would answer INTERNAL at once. And what a message was
// read from is wiped: an import carries a credential, and the memory that it
// arrives in goes back to a pool.
type codec struct{ encoding.CodecV2 }

func newCodec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

// reading is what a codec reads into.
type reading struct {
	message proto.Message
	err     error
}

func (codec) Unmarshal(data mem.BufferSlice, into any) error {
	r, ok := into.(*reading)
	if !ok {
		return fmt.Errorf("%T is read without read", into)
	}
	var text []byte
	if len(data) == 1 {
		text = data[0].ReadOnlyData()
	} else {
		text = data.Materialize()
	}
	r.err = proto.Unmarshal(text, r.message)
	clear(text)
	for _, buffer := range data {
		clear(buffer.ReadOnlyData()) // nobody else holds it by now
	}
	return nil
}

// read has gRPC read one message.
func read(receive func(any) error, message any) error {
	into, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", message)
	}
	r := reading{message: into}
	if err := receive(&r); err != nil {
		return err
	}
	if r.err != nil {
		return fault.New(fault.BadRequest, "the message is none of sealsign.v1: not protobuf, or a text in it not UTF-8").Because(r.err)
	}
	return nil
}

// readable has the methods of a service read their messages so.
func (s *Server) readable(desc grpc.ServiceDesc) *grpc.ServiceDesc {
	methods := make([]grpc.MethodDesc, len(desc.Methods))
	for i, method := range desc.Methods {
		methods[i] = grpc.MethodDesc{MethodName: method.MethodName,
			Handler: func(server any, ctx context.Context, receive func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
				decode := func(message any) error {
					return s.statusError(desc.ServiceName+"/"+method.MethodName, read(receive, message))
				}
				return method.Handler(server, ctx, decode, around)
			}}
	}
	desc.Methods = methods
	return &desc
}

// readableStream has a stream read its messages so.
type readableStream struct{ grpc.ServerStream }

func (s readableStream) RecvMsg(message any) error { return read(s.ServerStream.RecvMsg, message) }
