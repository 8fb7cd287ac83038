package config

import (
	"fmt"
	"reflect"
	"strings"
)

//go:generate go test -run TestReference -update .

// Reference renders docs/configuration.md from the types' tags.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	section(&b, reflect.TypeFor[Config](), "")
	b.WriteString(agentHead)
	section(&b, reflect.TypeFor[AgentFile](), "")
	return b.String()
}

const referenceHead = `# Configuration reference

Generated from the types in ` + "`config/types.go`" + ` by ` + "`go generate ./config`" + `; a test keeps it equal to them.

One YAML file. An unknown key is an error. Durations are written as 250ms, 30s,
8h or 7d, sizes as 64KiB, 16MiB or 1GiB. ` + "`${NAME}`" + ` is replaced by the environment
variable; a password may be ` + "`file:/path`" + `. ` + "`signalbox check -c FILE`" + ` reports every
fault at once. A complete example is ` + "`examples/signalbox.yaml`" + `.

| key | default | meaning |
| --- | --- | --- |
`

const agentHead = `
## The agent's file

` + "`signalbox agent -c FILE`" + `, on each DRBD node. An example is ` + "`examples/agent.yaml`" + `.

| key | default | meaning |
| --- | --- | --- |
`

func section(b *strings.Builder, t reflect.Type, path string) {
	for i := range t.NumField() {
		f := t.Field(i)
		key := join(path, f.Tag.Get("yaml"))
		inner := f.Type
		list := inner.Kind() == reflect.Slice
		if list {
			inner = inner.Elem()
			key += "[]"
		}
		nested := inner.Kind() == reflect.Struct
		doc := strings.ReplaceAll(f.Tag.Get("doc"), "|", `\|`)
		if enum := f.Tag.Get("enum"); enum != "" {
			doc += " One of: " + strings.ReplaceAll(strings.Trim(enum, ","), ",", ", ") + "."
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", key, defaultOf(f, nested || list), doc)
		if nested {
			section(b, inner, key)
		}
	}
}

func defaultOf(f reflect.StructField, none bool) string {
	if d := f.Tag.Get("default"); d != "" {
		return "`" + d + "`"
	}
	if none {
		return ""
	}
	return "empty"
}
