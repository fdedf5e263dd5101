package client

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"google.golang.org/grpc"

	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// Admin does what operators do. Its methods are those of the service
// sealsign.v1.Admin; their errors are *Errors.
type Admin struct {
	pb.AdminClient
	conn   *grpc.ClientConn
	socket string
}

// DialAdmin makes an admin client of the agent whose sockets are in dir; see Dir
// for an empty one. The agent lets in root and its own user.
func DialAdmin(dir string) (*Admin, error) {
	socket := filepath.Join(Dir(dir), "admin.sock")
	conn, err := dial(socket)
	if err != nil {
		return nil, err
	}
	return &Admin{pb.NewAdminClient(conn), conn, socket}, nil
}

// BackupTo writes the agent's backup, a tar archive, to w, and tells its size. With an
// error, what was written is of no use.
func (a *Admin) BackupTo(ctx context.Context, w io.Writer) (size int64, err error) {
	stream, err := a.Backup(ctx, &pb.BackupRequest{})
	for err == nil {
		var part *pb.BackupPart
		if part, err = stream.Recv(); err != nil {
			break
		}
		n, failed := w.Write(part.GetData())
		size += int64(n)
		if failed != nil {
			return size, failed
		}
	}
	if errors.Is(err, io.EOF) {
		return size, nil
	}
	return size, refusalOf(err, a.socket)
}

// Close ends the connection.
func (a *Admin) Close() error { return a.conn.Close() }
