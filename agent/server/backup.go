package server

import (
	"bufio"

	"google.golang.org/grpc"

	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// partSize is how many bytes of a backup go in one message.
const partSize = 64 << 10

// Backup streams the archive.
func (s *admin) Backup(_ *pb.BackupRequest, stream grpc.ServerStreamingServer[pb.BackupPart]) error {
	who, err := callerOf(stream.Context())
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(parts{stream}, partSize)
	if err := s.agent.Backup(who, out); err != nil {
		return err
	}
	return out.Flush()
}

// parts sends what is written to it.
type parts struct {
	stream grpc.ServerStreamingServer[pb.BackupPart]
}

func (p parts) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		n := min(len(rest), partSize)
		if err := p.stream.Send(&pb.BackupPart{Data: rest[:n]}); err != nil {
			return len(data) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(data), nil
}
