// SPDX-License-Identifier: MIT OR Apache-2.0

package abi

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// known is what the binding knows of each struct: these fields, in this order.
var known = []string{
	"mnemo_error: code native len reserved message",
	"mnemo_tensor: data rows cols row_stride dtype device_type device_id reserved",
	"mnemo_exec: struct_size flags stream seed cancel progress progress_user",
	"mnemo_context_options: struct_size device_type device_id num_threads memory_limit kernel_cache_dir instruction_set reserved",
	"mnemo_dataset_options: struct_size reserved scale shift labels_path",
	"mnemo_dataset_info: struct_size dtype rows dim labels min max",
	"mnemo_empirical_options: struct_size regularizer strength tolerance label conditional reserved log_strength",
	"mnemo_score_ops: struct_size prediction eval jvp drop",
	"mnemo_score_outputs: struct_size reserved score denoised log_density divergence entropy nearest_index nearest_distance " +
		"denoised_error_bound log_density_error_bound",
	"mnemo_sampler_options: struct_size solver grid from_prior denoise_last reserved steps first_sample t_start t_end alpha2 " +
		"eta rtol atol rho s_churn s_min s_max s_noise times times_count observer observer_user",
	"mnemo_memorization_options: struct_size reserved threshold",
	"mnemo_memorization_report: struct_size reserved samples copied fraction_copied min_distance median_distance max_distance",
}

const root = "../../../../"

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the binding knows, laid out as cgo does, is what the library's own test says.
func TestLayout(t *testing.T) {
	var got strings.Builder
	structs := Structs()
	for _, line := range known {
		name, fields, _ := strings.Cut(line, ": ")
		fmt.Fprintf(&got, "%s %d\n", name, structs[name].Size())
		for _, field := range strings.Fields(fields) {
			f, ok := structs[name].FieldByName(field)
			if !ok {
				t.Fatalf("%s has no %s", name, field)
			}
			fmt.Fprintf(&got, "  %s %d %d\n", field, f.Offset, f.Type.Size())
		}
	}
	if want := read(t, root+"tests/abi/layout.txt"); got.String() != want {
		t.Fatalf("the layout of structs is not that of tests/abi/layout.txt: run `make abi`, then mend the binding\n"+
			"expected:\n%s\nthe binding has:\n%s", want, got.String())
	}
}

func sources(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, pattern := range []string{"*.go", "*.c", "*.h"} {
		paths, _ := filepath.Glob("../../" + pattern)
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				text.WriteString(read(t, path))
			}
		}
	}
	return text.String()
}

// Every function and constant of the header is used by the binding, but for a few.
func TestComplete(t *testing.T) {
	unused := map[string]string{
		"mnemo_cancel_reset": "each call has a cancel flag of its own",
		"MNEMO_CPU_TENSOR":   "for C",
		"MNEMO_REG_NONE":     "the initial value",
		"MNEMO_H":            "the include guard",
	}
	words := map[string]bool{}
	for _, word := range regexp.MustCompile(`\w+`).FindAllString(sources(t), -1) {
		words[word] = true
	}
	names := strings.Fields(read(t, root+"tests/abi/symbols.txt"))
	for _, define := range regexp.MustCompile(`(?m)^#define (\w+)`).FindAllStringSubmatch(read(t, root+"include/mnemo.h"), -1) {
		names = append(names, define[1])
	}
	if len(names) < 80 {
		t.Fatalf("only %d names found", len(names))
	}
	for _, name := range names {
		if _, allowed := unused[name]; words[name] == allowed {
			t.Errorf("%s: used is %v, but allowed to be unused is %v", name, words[name], allowed)
		}
	}
}
