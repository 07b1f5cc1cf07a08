package main

import (
	"encoding"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// shownSetting is a setting of serve as herald check prints it.
type shownSetting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  string `json:"from"` // "flag", the name of a variable, FILE:LINE or "default"
}

// listSettings returns the settings of serve in the order of its help. Without all, it leaves out settings with their
// default value.
func listSettings(parsed *kong.Context, file *configFile, all bool) []shownSetting {
	given := make(map[string]bool)
	for _, p := range parsed.Path {
		if p.Flag != nil && !p.Resolved {
			given[p.Flag.Name] = true
		}
	}
	list := []shownSetting{}
	for _, f := range parsed.Flags() {
		if f.Hidden || f.Name == "help" || f.Name == "version" || f.Group != nil && f.Group.Key == "Check" {
			continue
		}
		from := origin(f, given[f.Name], file)
		if from == fromDefault && !all {
			continue
		}
		list = append(list, shownSetting{f.Name, maskPassword(settingText(f)), from})
	}
	return list
}

const fromDefault = "default"

// origin says where the value of a flag comes from.
func origin(f *kong.Flag, given bool, file *configFile) string {
	if given {
		return "flag"
	}
	for _, variable := range f.Envs {
		if isSet(variable) {
			return variable
		}
	}
	if file.used[f.Name] {
		return fmt.Sprintf("%s:%d", file.path, file.values[f.Name].line)
	}
	return fromDefault
}

// settingText returns the value of a flag in the form in which the flag takes it.
func settingText(f *kong.Flag) string {
	if !f.IsSlice() {
		return valueText(f.Target)
	}
	var elements []string
	for i := range f.Target.Len() {
		elements = append(elements, valueText(f.Target.Index(i)))
	}
	return kong.JoinEscaped(elements, f.Tag.Sep)
}

func valueText(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case logLevel:
		return strings.ToLower(slog.Level(value).String())
	case fmt.Stringer:
		return value.String()
	case encoding.TextMarshaler:
		text, _ := value.MarshalText() // of values that were parsed from text
		return string(text)
	default:
		return fmt.Sprint(value)
	}
}

// maskPassword hides the password of a URL. Other secrets are in files, of which settings have the names.
func maskPassword(text string) string {
	if u, err := url.Parse(text); err == nil && u.User != nil {
		return u.Redacted()
	}
	return text
}
