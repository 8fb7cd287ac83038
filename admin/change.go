package admin

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// ErrUnknown: what was asked for does not exist. Sources return it wrapped.
var ErrUnknown = errors.New("unknown")

// modes are the actions on a server and the mode each sets.
var modes = map[string]string{"drain": "draining", "disable": "disabled", "enable": "enabled"}

// changes adds what changes something, and the events that tell of it.
func changes(mux *http.ServeMux, src *Sources) {
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		since, _ := strconv.ParseUint(r.URL.Query().Get("since"), 10, 64)
		reply(w, http.StatusOK, src.Events(since))
	})
	mux.HandleFunc("GET /servers", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, src.Status().Servers) })
	mux.HandleFunc("POST /servers/{name}/{action}", src.guard(func(w http.ResponseWriter, r *http.Request) {
		mode, known := modes[r.PathValue("action")]
		if !known {
			fail(w, http.StatusNotFound, "the action is drain, disable or enable")
			return
		}
		switch err := src.SetMode(r.PathValue("name"), mode); {
		case errors.Is(err, ErrUnknown):
			fail(w, http.StatusNotFound, err.Error())
		case err != nil: // it is done, and something is to be said about it
			reply(w, http.StatusOK, Done{mode, err.Error()})
		default:
			reply(w, http.StatusOK, Done{Mode: mode})
		}
	}))
}

// Done is the answer to a change.
type Done struct {
	Mode    string `json:"mode"`
	Warning string `json:"warning,omitempty"`
}

// guard lets a request that changes something through: with the token where one
// is set, otherwise from this host only. A page of another site that a browser
// on this host shows can do neither.
func (src *Sources) guard(next http.HandlerFunc) http.HandlerFunc {
	cross := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case cross.Check(r) != nil:
			fail(w, http.StatusForbidden, "requests from pages of other sites change nothing")
		case src.Token != "" && !bearer(r, src.Token):
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, "it needs the bearer token admin.token")
		case src.Token == "" && (!fromHere(r.RemoteAddr) || !namesHere(r.Host)):
			fail(w, http.StatusForbidden, "changes are taken from this host only; set admin.token to make them from elsewhere")
		default:
			next(w, r)
		}
	}
}

func bearer(r *http.Request, token string) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && subtle.ConstantTimeCompare([]byte(given), []byte(token)) == 1
}

func fromHere(remote string) bool {
	a, err := netip.ParseAddrPort(remote)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// namesHere tells whether the request was made to an address and not to a name,
// which a stranger's DNS can make point here.
func namesHere(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	_, err = netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil || name == "localhost"
}

func fail(w http.ResponseWriter, status int, why string) {
	reply(w, status, struct {
		Error string `json:"error"`
	}{why})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v)
}
