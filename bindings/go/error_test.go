// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mnemo"
)

func TestCodes(t *testing.T) {
	names := map[mnemo.Code]string{
		mnemo.ErrInvalid: "INVALID", mnemo.ErrShape: "SHAPE", mnemo.ErrDType: "DTYPE", mnemo.ErrDevice: "DEVICE",
		mnemo.ErrNoMemory: "NOMEM", mnemo.ErrIO: "IO", mnemo.ErrCUDA: "CUDA", mnemo.ErrCompile: "COMPILE",
		mnemo.ErrCancelled: "CANCELLED", mnemo.ErrCallback: "CALLBACK", mnemo.ErrUnsupported: "UNSUPPORTED",
		mnemo.ErrPoisoned: "POISONED", mnemo.ErrPanic: "PANIC",
	}
	if len(names) != 13 {
		t.Fatal("two codes are equal")
	}
	for code, name := range names {
		if code.String() != "MNEMO_E_"+name || code.Error() != code.String() {
			t.Errorf("code %d is %v; expected MNEMO_E_%s", int32(code), code, name)
		}
	}
	if text := mnemo.Code(99).String(); text != "unknown status" {
		t.Errorf("code 99 is %q", text)
	}
}

func TestErrorIsAndAs(t *testing.T) {
	_, err := newContext(t).OpenDataset(filepath.Join(t.TempDir(), "absent.npy"))
	e := fails(t, fmt.Errorf("wrapped: %w", err), mnemo.ErrIO, "absent.npy", "MNEMO_E_IO")
	if e.Native != int32(syscall.ENOENT) {
		t.Errorf("native is %d; expected ENOENT", e.Native)
	}
	if errors.Is(err, mnemo.ErrInvalid) || errors.Is(err, io.EOF) || errors.Is(err, mnemo.ErrClosed) {
		t.Error("the error is also what it is not")
	}
	if e.Unwrap() != nil {
		t.Errorf("the cause is %v", e.Unwrap())
	}
	if want := "mnemo: " + e.Message + " (MNEMO_E_IO)"; e.Error() != want {
		t.Errorf("the text is %q; expected %q", e.Error(), want)
	}
}

// A call with a closed object, with none, and with one that was never made.
func TestClosedObjects(t *testing.T) {
	c, p := newContext(t), edm(t)
	d := newDataset(t, c, normal[float64](1, 4, 2), nil)
	s := empirical(t, d, p)
	x, at := normal[float64](2, 3, 2), mnemo.Vector(1.0)
	calls := func(c *mnemo.Context, p *mnemo.Process, d, other *mnemo.Dataset, s *mnemo.Score) map[string]error {
		all := map[string]error{
			"Eval":   s.Eval(ctx, x, at, mnemo.Outputs{Score: x}),
			"JVP":    s.JVP(ctx, x, at, x, x),
			"Sample": s.Sample(ctx, x),
			"Gather": d.Gather(nil, x), "Nearest": d.Nearest(ctx, x, mnemo.MetricL2, 1, nil, nil),
		}
		_, all["Describe"] = c.Describe()
		_, all["NewDataset"] = c.NewDataset(x, nil)
		_, all["OpenDataset"] = c.OpenDataset("x.npy")
		_, all["NewCustomScore"] = c.NewCustomScore(p, 2, mnemo.Model{})
		_, all["Process.Eval"] = p.Eval(1)
		_, all["TimeOfSigma"] = p.TimeOfSigma(1)
		_, all["Info"] = d.Info()
		_, all["Memorization"] = d.Memorization(ctx, x, 1)
		_, all["NewEmpiricalScore"] = d.NewEmpiricalScore(p)
		_, all["NewEmpiricalScore of a closed process"] = other.NewEmpiricalScore(p)
		return all
	}
	closed := must(c.NewDataset(x, nil))(t)
	for _, o := range []io.Closer{closed, s, p, c} {
		for again := 0; again < 3; again++ {
			check(t, o.Close())
		}
	}
	for name, err := range calls(c, p, closed, d, s) {
		if fails(t, err, mnemo.ErrInvalid, "closed"); !errors.Is(err, mnemo.ErrClosed) {
			t.Errorf("%s: %v is not ErrClosed", name, err)
		}
	}
	for name, err := range calls(nil, nil, nil, d, nil) {
		if !errors.Is(err, mnemo.ErrClosed) {
			t.Errorf("%s of nil: %v", name, err)
		}
	}
	for name, err := range calls(new(mnemo.Context), new(mnemo.Process), new(mnemo.Dataset), d, new(mnemo.Score)) {
		if !errors.Is(err, mnemo.ErrClosed) {
			t.Errorf("%s of a zero value: %v", name, err)
		}
	}
	check(t, (*mnemo.Score)(nil).Close())
	check(t, new(mnemo.Dataset).Close())
	check(t, (*mnemo.Context)(nil).Close())
	check(t, new(mnemo.Process).Close())
}

func TestVersions(t *testing.T) {
	if v := mnemo.Version(); strings.Count(v, ".") != 2 {
		t.Errorf("the version is %q", v)
	}
	header := string(must(os.ReadFile("../../include/mnemo.h"))(t))
	major, minor := mnemo.ABIVersion()
	for _, define := range []string{
		fmt.Sprintf("\n#define MNEMO_ABI_MAJOR %d\n", major), fmt.Sprintf("\n#define MNEMO_ABI_MINOR %d\n", minor),
	} {
		if !strings.Contains(header, define) {
			t.Errorf("the ABI version is %d.%d; not that of the header", major, minor)
		}
	}
}

// A library of another ABI version in the place of the one that the program was compiled for.
func TestABIMismatch(t *testing.T) {
	if os.Getenv("MNEMO_TEST_CHILD") != "" {
		_, err := mnemo.NewContext()
		_, other := mnemo.NewFlow()
		fmt.Println("child:", errors.Is(err, mnemo.ErrUnsupported) && errors.Is(other, mnemo.ErrUnsupported), err)
		return
	}
	major, minor := mnemo.ABIVersion()
	for version, accepted := range map[[2]int]bool{
		{major, minor}: true, {major, minor + 1}: true, {major, minor - 1}: false, {major + 1, minor + 9}: false,
	} {
		dir := t.TempDir()
		source, library := filepath.Join(dir, "other.c"), filepath.Join(dir, "other.so")
		text := fmt.Sprintf("unsigned mnemo_abi_version(void) { return %du << 16 | %d; }\n", version[0], version[1])
		check(t, os.WriteFile(source, []byte(text), 0o600))
		if out, err := exec.Command("cc", "-shared", "-fPIC", source, "-o", library).CombinedOutput(); err != nil {
			t.Fatalf("cc: %v\n%s", err, out)
		}
		out := runChild(t, "LD_PRELOAD="+library)
		if want := fmt.Sprintf("child: %v", !accepted); !strings.Contains(out, want) {
			t.Errorf("with ABI %v: expected %q in\n%s", version, want, out)
		}
	}
}

// runChild runs the current test in a process of its own, with MNEMO_TEST_CHILD set.
func runChild(t *testing.T, environment ...string) string {
	t.Helper()
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	command := exec.CommandContext(limited, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(append(os.Environ(), "MNEMO_TEST_CHILD=1"), environment...)
	out, _ := command.CombinedOutput()
	if limited.Err() != nil {
		t.Fatalf("the child hangs; it printed\n%s", out)
	}
	return string(out)
}

func TestContextOptions(t *testing.T) {
	c := newContext(t, mnemo.NumThreads(3), mnemo.ISAPortable, mnemo.MemoryLimit(64), nil)
	d := must(c.Describe())(t)
	if d.Backend != "cpu" || d.Threads != 3 || d.InstructionSet != "portable" || d.Device == "" {
		t.Errorf("the context is %+v", d)
	}
	check(t, c.WarmUp())
	newDataset(t, c, mnemo.NewMatrix[float64](4, 2), nil)
	_, err := c.NewDataset(mnemo.NewMatrix[float64](9, 2), nil)
	fails(t, err, mnemo.ErrNoMemory)
	if d := must(newContext(t, mnemo.ISABest).Describe())(t); d.Threads < 1 {
		t.Errorf("the context is %+v", d)
	}
	for _, isa := range []mnemo.InstructionSet{mnemo.ISAAVX2, mnemo.ISAAVX512, mnemo.ISAAMX} {
		if c, err := mnemo.NewContext(isa); err != nil {
			fails(t, err, mnemo.ErrDevice)
		} else if d := must(c.Describe())(t); !strings.HasPrefix(d.InstructionSet, "avx") {
			t.Errorf("the context is %+v", d)
		}
	}
	refused := []struct {
		option mnemo.ContextOption
		code   mnemo.Code
		word   string
	}{
		{mnemo.CUDA(4096), mnemo.ErrDevice, "driver"},
		{mnemo.CUDA(math.MaxInt64), mnemo.ErrInvalid, "9223372036854775807"},
		{mnemo.NumThreads(-1), mnemo.ErrInvalid, "-1"},
		{mnemo.NumThreads(1 << 40), mnemo.ErrInvalid, "1099511627776"},
		{mnemo.InstructionSet(99), mnemo.ErrInvalid, "99"},
		{mnemo.KernelCacheDir("a\x00b"), mnemo.ErrInvalid, "zero byte"},
		{mnemo.KernelCacheDir("\xff"), mnemo.ErrInvalid, "kernel_cache_dir"},
	}
	for _, r := range refused {
		_, err := mnemo.NewContext(r.option)
		fails(t, err, r.code, r.word)
	}
	check(t, must(mnemo.NewContext(mnemo.KernelCacheDir(t.TempDir())))(t).Close())
}
