// SPDX-License-Identifier: MIT OR Apache-2.0

// Package abi has the structs of the library's header as cgo sees them, for the binding's tests.
package abi

// #cgo pkg-config: mnemo
// #include <mnemo.h>
import "C"

import "reflect"

// Structs are the types of the header, by name.
func Structs() map[string]reflect.Type {
	return map[string]reflect.Type{
		"mnemo_error":                reflect.TypeOf(C.mnemo_error{}),
		"mnemo_tensor":               reflect.TypeOf(C.mnemo_tensor{}),
		"mnemo_exec":                 reflect.TypeOf(C.mnemo_exec{}),
		"mnemo_context_options":      reflect.TypeOf(C.mnemo_context_options{}),
		"mnemo_dataset_options":      reflect.TypeOf(C.mnemo_dataset_options{}),
		"mnemo_dataset_info":         reflect.TypeOf(C.struct_mnemo_dataset_info{}),
		"mnemo_empirical_options":    reflect.TypeOf(C.mnemo_empirical_options{}),
		"mnemo_score_ops":            reflect.TypeOf(C.mnemo_score_ops{}),
		"mnemo_score_outputs":        reflect.TypeOf(C.mnemo_score_outputs{}),
		"mnemo_sampler_options":      reflect.TypeOf(C.mnemo_sampler_options{}),
		"mnemo_memorization_options": reflect.TypeOf(C.mnemo_memorization_options{}),
		"mnemo_memorization_report":  reflect.TypeOf(C.mnemo_memorization_report{}),
	}
}
