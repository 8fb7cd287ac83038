package config

import "log/slog"

// Secret is a value that is never printed: String, slog and YAML show only
// whether it is set. Use Reveal at the one place that needs it.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// LogValue hides the value in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Size is a number of bytes, written as 64KiB, 16MiB, 1GiB or a plain number.
type Size int64
