package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Error is one fault of a configuration, with its place and its remedy.
type Error struct {
	File      string
	Line, Col int // from 1; 0 when the fault has no place
	Msg       string
}

// Error is FILE:LINE:COLUMN: message.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

// Load reads and checks the file at path. The error joins an *Error for every
// fault found.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, text)
}

// Parse checks text as Load does; name stands for the file in errors.
func Parse(name string, text []byte) (*Config, error) {
	c := new(Config)
	if err := parse(name, text, c, func(d *decoder) { d.validate(c) }); err != nil {
		return nil, err
	}
	return c, nil
}

// parse decodes text into the struct that to points to, and validates it when
// every value is well formed.
func parse(name string, text []byte, to any, validate func(*decoder)) error {
	d := &decoder{file: name, places: make(map[string]*yaml.Node)}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return &Error{File: name, Msg: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode {
		root = doc.Content[0]
	}
	into := reflect.ValueOf(to).Elem()
	setDefaults(into)
	if root.Kind != 0 {
		d.value(root, into, "", "")
	}
	if len(d.errs) == 0 {
		validate(d)
	}
	sort.SliceStable(d.errs, func(i, j int) bool { return d.errs[i].Line < d.errs[j].Line })
	errs := make([]error, len(d.errs))
	for i, e := range d.errs {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// decoder walks YAML nodes beside Go values, because yaml's own strict mode
// knows neither columns nor the nearest key.
type decoder struct {
	file   string
	errs   []*Error
	places map[string]*yaml.Node // by path, such as servers[0].address
}

func (d *decoder) errorf(n *yaml.Node, format string, args ...any) {
	e := &Error{File: d.file, Msg: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line, e.Col = n.Line, n.Column
	}
	d.errs = append(d.errs, e)
}

// at reports a fault of the value at path, or of the nearest one around it.
func (d *decoder) at(path, format string, args ...any) {
	for p := path; ; {
		if n := d.places[p]; n != nil || p == "" {
			d.errorf(n, "%s: %s", path, fmt.Sprintf(format, args...))
			return
		}
		p = p[:max(strings.LastIndexAny(p, ".["), 0)]
	}
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	secretType   = reflect.TypeFor[Secret]()
)

// value decodes n into v. enum lists the words allowed, "" for any.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path, enum string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.places[path] = n
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.sequence(n, v, path)
	default:
		d.scalar(n, v, path, enum)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.errorf(n, "%s: want keys and values, found %s", describe(path), kindOf(n))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		field, ok := fieldOf(v.Type(), key.Value)
		switch {
		case !ok:
			d.errorf(key, "unknown key %q in %s; %s", key.Value, describe(path), nearest(key.Value, keysOf(v.Type())))
		case seen[key.Value]:
			d.errorf(key, "key %q appears twice in %s; remove one", key.Value, describe(path))
		default:
			seen[key.Value] = true
			d.value(n.Content[i+1], v.FieldByIndex(field.Index), join(path, key.Value), field.Tag.Get("enum"))
		}
	}
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	if n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.errorf(n, "%s: want a list, found %s; write one entry a line, each after \"- \"", describe(path), kindOf(n))
		return
	}
	for i, item := range n.Content {
		e := reflect.New(v.Type().Elem()).Elem()
		if e.Kind() == reflect.Struct {
			setDefaults(e)
		}
		d.value(item, e, fmt.Sprintf("%s[%d]", path, i), "")
		v.Set(reflect.Append(v, e))
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path, enum string) {
	if n.Kind != yaml.ScalarNode {
		d.errorf(n, "%s: want one value, found %s", describe(path), kindOf(n))
		return
	}
	text, err := expand(n.Value)
	if err == nil && v.Type() == secretType {
		text, err = fromFile(text)
	}
	if err == nil {
		err = set(v, text)
	}
	if err == nil && enum != "" {
		err = oneOf(text, strings.Split(enum, ","))
	}
	if err != nil {
		d.errorf(n, "%s: %v", describe(path), err)
	}
}

func oneOf(text string, words []string) error {
	for _, w := range words {
		if w == text {
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", text, strings.TrimPrefix(strings.Join(words, ", "), ", "))
}

// set parses text as v's type.
func set(v reflect.Value, text string) error {
	switch {
	case v.Type() == durationType:
		t, err := parseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(t))
	case v.Type() == sizeType:
		n, err := ParseSize(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	default:
		v.SetString(text)
	}
	return nil
}

// setDefaults sets v's fields from their default tags.
func setDefaults(v reflect.Value) {
	for i := range v.NumField() {
		f, tag := v.Field(i), v.Type().Field(i).Tag.Get("default")
		if f.Kind() == reflect.Struct {
			setDefaults(f)
		} else if tag != "" {
			if err := set(f, tag); err != nil {
				panic(fmt.Sprintf("default of %s: %v", v.Type().Field(i).Name, err))
			}
		}
	}
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") == key {
			return t.Field(i), true
		}
	}
	return reflect.StructField{}, false
}

func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func describe(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", n.Value)
}

// nearest names the key that was probably meant, or all of them.
func nearest(key string, keys []string) string {
	best, distance := "", len(key)/2+2
	for _, k := range keys {
		if d := edits(key, k); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known are " + strings.Join(keys, ", ")
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
