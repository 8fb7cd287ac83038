package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"signalbox/lvs"
)

// check is signalbox lvs check: what on this host keeps it from being a
// director of the configuration's services. It fails when there is an error.
func (l *lvsCommand) check() error {
	if !l.cfg.LVS.On() {
		return errors.New("lvs.mode is off: nothing to check")
	}
	wish := lvs.WishOf(l.cfg)
	found := lvs.Preflight(lvs.Gather(wish), wish)
	var done []lvs.Finding
	if l.write {
		var err error
		if done, err = lvs.Apply(found); err != nil {
			return err
		}
		found = lvs.Preflight(lvs.Gather(wish), wish)
	}
	if l.json {
		e := json.NewEncoder(l.std.out)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{"findings": append([]lvs.Finding{}, found...), "applied": append([]lvs.Finding{}, done...)}); err != nil {
			return err
		}
	} else {
		l.showFindings(found, done)
	}
	if slices.ContainsFunc(found, func(f lvs.Finding) bool { return f.Severity == lvs.Wrong }) {
		return errors.New("this host is not ready to be a director")
	}
	return nil
}

func (l *lvsCommand) showFindings(found, done []lvs.Finding) {
	for _, f := range done {
		fmt.Fprintf(l.std.out, "applied: %s\n", f.Remedy)
	}
	for _, f := range found {
		subject := ""
		if f.Subject != "" {
			subject = f.Subject + ": "
		}
		fmt.Fprintf(l.std.out, "%-8s%s: %s%s\n        %s\n", f.Severity, f.Code, subject, f.Text, f.Remedy)
	}
	if len(found) == 0 {
		fmt.Fprintln(l.std.out, "this host is ready to be a director")
	}
	if len(done) > 0 {
		fmt.Fprintf(l.std.out, "\nTo keep what was applied over a boot, put into /etc/sysctl.d/90-signalbox.conf:\n%s", lvs.Persist(done))
		return
	}
	if text := lvs.Persist(found); text != "" {
		fmt.Fprintf(l.std.out, "\nsignalbox lvs check --apply sets %s\n", strings.Join(strings.Split(strings.TrimSpace(text), "\n"), ", "))
	}
}
