package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"signalbox/config"
)

// Notify posts a notice to the agent that cfg describes, with the agent's own
// credentials: whoever may read its file may speak to it.
func Notify(ctx context.Context, cfg *config.AgentFile, n *Notice) (*Noticed, error) {
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true}
	if cfg.CertFile != "" {
		scheme = "https"
		t, err := itself(cfg)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = t
	}
	body, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+cfg.Address+NoticePath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if cfg.Token != "" {
		request.Header.Set("Authorization", "Bearer "+cfg.Token.Reveal())
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, fmt.Errorf("reach the agent: %w; see that signalbox agent runs on this host", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, mostNotice))
	if err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the agent answers %s: %s", response.Status, bytes.TrimSpace(text))
	}
	answer := new(Noticed)
	if err := json.Unmarshal(text, answer); err != nil {
		return nil, fmt.Errorf("the agent's answer: %w", err)
	}
	return answer, nil
}

// itself trusts the agent's own certificate and no other, whatever names are in
// it: both ends have the same file.
func itself(cfg *config.AgentFile) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file: %w", err)
	}
	own, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("cert_file: %w", err)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		Certificates:       []tls.Certificate{pair},
		InsecureSkipVerify: true, // replaced by the stricter check below
		VerifyConnection: func(s tls.ConnectionState) error {
			if !s.PeerCertificates[0].Equal(own) {
				return errors.New("the agent shows another certificate than its cert_file; restart it after a change")
			}
			return nil
		},
	}, nil
}
