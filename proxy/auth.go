package proxy

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"

	"github.com/go-mysql-org/go-mysql/mysql"

	"signalbox/internal/wire"
)

// The authentication plugins.
const (
	pluginNative = "mysql_native_password"
	pluginSHA2   = "caching_sha2_password"
)

// packets is an exchange with the client; the implementer numbers the packets.
type packets interface {
	ReadPacket() ([]byte, error)
	WritePacket(payload []byte) error
}

// auth is one proof of a password.
type auth struct {
	door     *Door
	packets  packets
	salt     []byte
	password string
	known    bool // false: no such account; every proof fails
	secure   bool // nobody can listen: TLS or a socket
}

var errWrongPassword = errors.New("wrong password, or no such account")

// run checks the client's proof, made by the plugin it proposed, and asks for
// another where the account uses a different one.
func (a *auth) run(plugin, proposed string, proof []byte) error {
	if plugin != proposed {
		newSalt((*[20]byte)(a.salt))
		request := append([]byte{0xfe}, plugin...)
		request = append(append(append(request, 0), a.salt...), 0)
		if err := a.packets.WritePacket(request); err != nil {
			return err
		}
		var err error
		if proof, err = a.packets.ReadPacket(); err != nil {
			return err
		}
	}
	switch plugin {
	case pluginNative:
		return a.verdict(sameProof(proof, mysql.CalcNativePassword(a.salt, []byte(a.password))))
	case pluginSHA2:
		return a.sha2(proof)
	}
	return fmt.Errorf("authentication plugin %s is not supported", plugin)
}

func (a *auth) verdict(ok bool) error {
	if ok && a.known {
		return nil
	}
	return errWrongPassword
}

// sameProof compares in constant time. An empty password has an empty proof;
// some clients send a zero byte for it.
func sameProof(got, want []byte) bool {
	if len(got) == 1 && got[0] == 0 {
		got = nil
	}
	return subtle.ConstantTimeCompare(got, want) == 1
}

// sha2 is caching_sha2_password. The proxy holds the password and can check the
// short proof at once; when that fails it asks for the password itself, as a
// server does that has nothing cached.
func (a *auth) sha2(proof []byte) error {
	want := mysql.CalcCachingSha2Password(a.salt, []byte(a.password))
	if a.password == "" {
		want = nil
	}
	if sameProof(proof, want) && a.known {
		if len(want) == 0 {
			return nil
		}
		return a.packets.WritePacket([]byte{0x01, 0x03}) // fast_auth_success
	}
	if len(proof) == 0 {
		return errWrongPassword
	}
	password, err := a.askPassword()
	if err != nil {
		return err
	}
	return a.verdict(subtle.ConstantTimeCompare(password, []byte(a.password)) == 1)
}

// askPassword gets the password itself: in the clear where nobody can listen,
// else encrypted with the proxy's RSA key.
func (a *auth) askPassword() ([]byte, error) {
	if err := a.packets.WritePacket([]byte{0x01, 0x04}); err != nil { // perform_full_authentication
		return nil, err
	}
	p, err := a.packets.ReadPacket()
	if err != nil {
		return nil, err
	}
	if !a.secure {
		key := a.door.key()
		if len(p) == 1 && p[0] == 0x02 { // request_public_key
			if err := a.packets.WritePacket(append([]byte{0x01}, key.public...)); err != nil {
				return nil, err
			}
			if p, err = a.packets.ReadPacket(); err != nil {
				return nil, err
			}
		}
		if p, err = rsa.DecryptOAEP(sha1.New(), rand.Reader, key.private, p, nil); err != nil {
			return nil, errWrongPassword
		}
		for i := range p {
			p[i] ^= a.salt[i%len(a.salt)]
		}
	}
	if n := len(p); n > 0 && p[n-1] == 0 {
		p = p[:n-1]
	}
	return p, nil
}

// keyPair is the RSA key for passwords on plain connections.
type keyPair struct {
	private *rsa.PrivateKey
	public  []byte // PEM
}

// newKey makes the key when it is first needed.
func newKey() func() *keyPair {
	return sync.OnceValue(func() *keyPair {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			panic(err) // an RSA key can always be marshalled
		}
		return &keyPair{key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
	})
}

// newSalt fills salt with random bytes that are neither zero nor '$', which
// some clients take for the end.
func newSalt(salt *[20]byte) {
	_, _ = rand.Read(salt[:])
	for i, b := range salt {
		if b &= 0x7f; b == 0 || b == '$' {
			b++
		}
		salt[i] = b
	}
}

// ChangeUser authenticates a connected client anew: COM_CHANGE_USER, whose
// payload begins with the command byte. The client is always asked for a proof
// with a fresh salt. On success the OK is still to be sent.
func (d *Door) ChangeUser(c *Client, payload []byte, p packets) (*Client, error) {
	f := fields{rest: payload}
	f.byte()
	name := f.terminated()
	proof := f.take(int(f.byte()))
	next := *c
	next.Schema = f.terminated()
	if len(f.rest) >= 2 {
		next.Collation = f.take(2)[0]
	}
	if c.Capability&wire.ClientPluginAuth != 0 && len(f.rest) > 0 {
		f.terminated()
	}
	if len(f.rest) > 0 {
		next.Attributes = attributes(f.counted())
	}
	if f.short {
		return nil, faultMalformed("COM_CHANGE_USER is cut short")
	}
	user := d.users[name]
	a := auth{door: d, packets: p, salt: make([]byte, 20), known: user != nil, secure: c.TLS || c.Remote == "localhost"}
	if user != nil {
		a.password = user.Password.Reveal()
	}
	host, _, _ := cutHost(c.Remote)
	if err := a.run(d.plugin(user, ""), "", nil); err != nil {
		if errors.Is(err, errWrongPassword) {
			return nil, accessDenied(name, host, len(proof) > 0)
		}
		return nil, err
	}
	if user != c.User && !d.limits.swap(c.User.Name, user.Name, user.MaxConnections) {
		return nil, &Fault{1226, "42000", fmt.Sprintf("User '%s' has exceeded the 'max_user_connections' resource (current value: %d)", name, user.MaxConnections)}
	}
	next.User = user
	return &next, nil
}
