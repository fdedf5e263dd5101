package client

import (
	"path/filepath"

	"google.golang.org/grpc"

	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// Admin does what operators do. Its methods are those of the service
// sealsign.v1.Admin; their errors are *Errors.
type Admin struct {
	pb.AdminClient
	conn *grpc.ClientConn
}

// DialAdmin makes an admin client of the agent whose sockets are in dir; see Dir
// for an empty one. The agent lets in root and its own user.
func DialAdmin(dir string) (*Admin, error) {
	conn, err := dial(filepath.Join(Dir(dir), "admin.sock"))
	if err != nil {
		return nil, err
	}
	return &Admin{pb.NewAdminClient(conn), conn}, nil
}

// Close ends the connection.
func (a *Admin) Close() error { return a.conn.Close() }
