package venue

import (
	"encoding/base64"
	"unicode/utf8"

	"github.com/sealsign/sealsign/internal/fault"
)

// Field is one header field.
type Field struct {
	Name  string
	Value []byte
}

// Signed is a request as it goes to the venue. Its Body may be the Request's own.
type Signed struct {
	Method, Host, Path, Query string
	Header                    []Field // all that the agent owns, and the content type of the body
	Body                      []byte
}

// Wipe clears the header values: of a venue with static keys they hold the key.
func (s *Signed) Wipe() {
	for i := range s.Header {
		clear(s.Header[i].Value)
	}
}

// Draft is a request, or a WebSocket login, that only lacks its signature. The
// Access it was made with must stay as it is until Finish.
type Draft struct {
	Message []byte // to be signed; nil: nothing is to be

	venue   *Venue
	request *Request
	login   *login
	access  Access
	stamp   Stamp
	env     *environment
	bare    bool // a public request: no credential
	keyed   bool // the API key and no signature

	query, body []byte
	signature   []byte
	encoding    encoding
}

// encoding is how a signature is written.
type encoding uint8

const (
	inHex encoding = iota
	inBase64
	inBase64URL // without padding
)

// Render makes the bytes that the venue wants signed. The parameter that carries
// time or nonce is replaced where the app put it, else added; the app's own
// signature is left out; every other byte stays. env is the key's environment:
// HOST_NOT_ALLOWED where the request's host is another's.
func (v *Venue) Render(r *Request, call *Call, access Access, stamp Stamp, env string) (*Draft, error) {
	e := v.environment(env)
	if e == nil || !e.has(r.Host) {
		return nil, fault.New(fault.HostNotAllowed, "%s is not a host of %s in environment %s", r.Host, v.name, env).
			WithHint("sealsign venues %s shows its hosts", v.name)
	}
	d := &Draft{venue: v, request: r, env: e, body: r.Body}
	d.bare = call.Public()
	d.keyed = call.row != nil && call.row.keyed
	if d.bare {
		d.query = []byte(r.Query)
		return d, nil
	}
	if err := d.take(access, stamp); err != nil {
		return nil, err
	}
	room := 2*len(r.Query) + len(r.Body) + len(r.Path) + messageRoom
	if v.stamp != nil {
		room += len(r.Body) // written anew, with the stamp in it
	}
	if v.jwt != nil {
		room += jwtRoom
	}
	buffer := make([]byte, 0, room)
	if d.keyed || v.message == nil {
		d.query = append(buffer, r.Query...)
		return d, nil
	}
	buffer = d.edit(buffer)
	d.Message = d.append(buffer[len(buffer):], v.message, asIs)
	return d, nil
}

const (
	// messageRoom is what a message has besides path, query and body, as a rule.
	messageRoom = 128
	// jwtRoom is what the header and the claims of a JWT take.
	jwtRoom = 640
)

// take checks what goes to the venue in the clear.
func (d *Draft) take(access Access, stamp Stamp) error {
	for _, field := range [][]byte{access.APIKey, access.Passphrase} {
		if !utf8.Valid(field) {
			return fault.New(fault.KeyDamaged, "the API key or passphrase is no text").WithHint("import the credential again")
		}
		for _, c := range field {
			if c < ' ' || c == 0x7f {
				return fault.New(fault.KeyDamaged, "the API key or passphrase has a control character").WithHint("import the credential again")
			}
		}
	}
	sign, ok := d.venue.signing(access.Algorithm)
	if !ok {
		return fault.New(fault.KeyUnsupported, "%s does not take %s", d.venue.name, access.Algorithm).
			WithHint("sealsign venues %s shows what it takes", d.venue.name)
	}
	d.access, d.stamp, d.encoding = access, stamp, sign.encoding
	return nil
}

// edit writes query and body with the agent's own parameters in them, and sets
// both. It gives the buffer with what it wrote.
func (d *Draft) edit(buffer []byte) []byte {
	v, r := d.venue, d.request
	var own *value
	if v.stamp != nil {
		own = r.fields().get(v.stamp.name)
	}
	toBody := v.stamp != nil && own == nil && (r.body != noBody || v.stamp.body)

	start := len(buffer)
	buffer = editPairs(d, buffer, r.Query, inQuery, v.stamp != nil && own == nil && !toBody)
	d.query = buffer[start:len(buffer):len(buffer)]
	switch {
	case v.stamp == nil && v.signedIn == "":
	case r.body == jsonBody:
		start = len(buffer)
		buffer = d.splice(buffer, own)
		d.body = buffer[start:len(buffer):len(buffer)]
	case r.body == formBody || toBody:
		start = len(buffer)
		buffer = editPairs(d, buffer, r.Body, inForm, toBody)
		d.body = buffer[start:len(buffer):len(buffer)]
	}
	return buffer
}

// editPairs writes a query or form: the stamp's value anew, the app's signature not at all.
func editPairs[T string | []byte](d *Draft, buffer []byte, raw T, in place, add bool) []byte {
	v := d.venue
	start := len(buffer)
	separate := func() {
		if len(buffer) > start {
			buffer = append(buffer, '&')
		}
	}
	stamp := func() {
		separate()
		buffer = append(append(buffer, v.stamp.name...), '=')
		buffer = d.append(buffer, v.stamp.value, percentEncoded)
	}
	if add && v.stamp.first {
		stamp()
	}
	for i := range d.request.pairs {
		p := &d.request.pairs[i]
		switch {
		case p.in != in || v.signedIn != "" && p.name == v.signedIn:
		case v.stamp != nil && p.name == v.stamp.name:
			stamp()
		default:
			separate()
			buffer = append(buffer, raw[p.start:p.end]...)
		}
	}
	if add && !v.stamp.first {
		stamp()
	}
	return buffer
}

// splice writes a JSON object with the stamp's value in it, always as a text:
// venues read one without losing digits.
func (d *Draft) splice(buffer []byte, own *value) []byte {
	body := d.request.Body
	if own != nil {
		buffer = append(append(buffer, body[:own.start]...), '"')
		buffer = append(d.append(buffer, d.venue.stamp.value, inJSONText), '"')
		return append(buffer, body[own.end:]...)
	}
	root := d.request.tape[0]
	buffer = append(append(buffer, body[:root.start+1]...), '"')
	buffer = append(append(buffer, d.venue.stamp.name...), `":"`...)
	buffer = append(d.append(buffer, d.venue.stamp.value, inJSONText), '"')
	if root.next > 1 {
		buffer = append(buffer, ',')
	}
	return append(buffer, body[root.start+1:]...)
}

// Finish puts the signature in its place. The signature is what the algorithm
// gives: the digest of an HMAC, r||s of ECDSA; nil where there was nothing to sign.
func (d *Draft) Finish(signature []byte) *Signed {
	d.signature = signature
	r, v := d.request, d.venue
	s := &Signed{Method: r.Method, Host: r.Host, Path: r.Path, Body: d.body}
	query := d.query
	if v.signedIn != "" && d.Message != nil {
		if len(d.body) > 0 {
			s.Body = d.appendSignature(d.body)
		} else {
			query = d.appendSignature(query)
		}
	}
	s.Query = string(query)
	d.appendHeader(s)
	return s
}

func (d *Draft) appendSignature(to []byte) []byte {
	signed := make([]byte, 0, len(to)+len(d.venue.signedIn)+2+2*base64.StdEncoding.EncodedLen(len(d.signature)))
	signed = append(signed, to...)
	if len(signed) > 0 {
		signed = append(signed, '&')
	}
	signed = append(append(signed, d.venue.signedIn...), '=')
	return d.append(signed, signatureParameter, percentEncoded)
}

var signatureParameter = template{{token: tokSignature}}

// appendHeader sets the fields that the agent owns.
func (d *Draft) appendHeader(s *Signed) {
	v := d.venue
	s.Header = make([]Field, 0, len(v.header)+len(d.env.header)+1)
	values := make([]byte, 0, headerRoom)
	add := func(f headerField) {
		start := len(values)
		values = d.append(values, f.value, asIs)
		s.Header = append(s.Header, Field{f.name, values[start:len(values):len(values)]})
	}
	for _, f := range v.header {
		if !d.bare && (!d.keyed || !f.value.has(signatureTokens...)) {
			add(f)
		}
	}
	for _, f := range d.env.header {
		add(f)
	}
	if contentType := d.contentType(); contentType != "" {
		s.Header = append(s.Header, Field{"Content-Type", []byte(contentType)})
	}
}

// headerRoom is what the header fields of one request take, as a rule.
const headerRoom = 512

var signatureTokens = []token{tokSignature, tokSignatureHex, tokSignatureBase64, tokSignatureBase64URL}

// contentType is the app's own, or what its body was read as: the venue must not
// read it in another way.
func (d *Draft) contentType() string {
	switch {
	case d.request.body == noBody && len(d.body) > 0:
		return formType // the body is the agent's own
	case d.request.ContentType != "" || len(d.body) == 0:
		return d.request.ContentType
	case d.request.body == jsonBody:
		return jsonType
	}
	return formType
}
