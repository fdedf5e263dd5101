package credential

import "reflect"

// Forget overwrites what a pointer of the standard library's cryptography points
// to: a hash that has seen a secret, an AES key schedule. Those types have no
// method for it, and garbage isn't wiped when it is collected. What comes of the
// value afterwards is undefined.
func Forget(secret any) {
	if v := reflect.ValueOf(secret); v.Kind() == reflect.Pointer && !v.IsNil() {
		v.Elem().SetZero()
	}
}
