// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

// #include "shim.h"
import "C"

import (
	"context"
	"unsafe"
)

// A Dataset holds training rows, in their own element type, and their labels. It is immutable.
type Dataset struct{ object *object }

// A DatasetOption is an option of [Context.NewDataset] and [Context.OpenDataset].
type DatasetOption interface{ dataset(*datasetConfig) }

type datasetConfig struct {
	options    C.mnemo_dataset_options
	labelsPath *string
}

type datasetOption func(*datasetConfig)

func (f datasetOption) dataset(c *datasetConfig) { f(c) }

// Scale and Shift say how rows are read: value = scale * raw + shift, in float64; initially 1 and 0. For 8-bit images
// in [-1, 1] they are 1/127.5 and -1.
func Scale(scale float64) DatasetOption {
	return datasetOption(func(c *datasetConfig) { c.options.scale = C.double(scale) })
}

// Shift is added to every value; see [Scale].
func Shift(shift float64) DatasetOption {
	return datasetOption(func(c *datasetConfig) { c.options.shift = C.double(shift) })
}

// LabelsPath is a file of one integer per row (.npy or IDX, plain or gzip), for [Context.OpenDataset].
func LabelsPath(path string) DatasetOption {
	return datasetOption(func(c *datasetConfig) { c.labelsPath = &path })
}

// NewDataset makes a data set of a copy of rows [N, d], of any element type but int32 and int64, with at least one row
// and one column. labels is nil or a vector of N integers (int64, int32 or uint8).
func (c *Context) NewDataset(rows, labels Tensor, options ...DatasetOption) (*Dataset, error) {
	var v views
	r, l := v.of("rows", rows), v.of("labels", labels)
	if v.err != nil {
		return nil, v.err
	}
	return c.newDataset(options, func(native *C.mnemo_context, o *C.mnemo_dataset_options, out **C.mnemo_dataset,
		e *C.mnemo_error) C.int32_t {
		return C.mnemo_go_dataset_copy(native, r, l, o, out, e)
	})
}

// OpenDataset makes a data set of a file: .npy (f2, f4, f8 or u1) or IDX (u8, f32 or f64; the MNIST format), plain or
// gzip-compressed, told by their contents. The first dimension is N, the others are flattened to d. It fails with
// [ErrIO] if the file cannot be read or is not what its header says.
//
// Rows that exceed [MemoryLimit] stay in the file, if it is not compressed, and are read when they are needed: it must not
// change, or every call fails with [ErrIO].
func (c *Context) OpenDataset(path string, options ...DatasetOption) (*Dataset, error) {
	p, err := optionalString("path", &path)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(p))
	return c.newDataset(options, func(native *C.mnemo_context, o *C.mnemo_dataset_options, out **C.mnemo_dataset,
		e *C.mnemo_error) C.int32_t {
		return C.mnemo_dataset_open(native, p, o, out, e)
	})
}

func (c *Context) newDataset(options []DatasetOption, create func(*C.mnemo_context, *C.mnemo_dataset_options,
	**C.mnemo_dataset, *C.mnemo_error) C.int32_t) (*Dataset, error) {
	context, done, err := c.use()
	if err != nil {
		return nil, err
	}
	defer done()
	var config datasetConfig
	C.mnemo_dataset_options_init(&config.options, C.sizeof_mnemo_dataset_options)
	for _, o := range options {
		if o != nil {
			o.dataset(&config)
		}
	}
	o := config.options
	path, err := optionalString("LabelsPath", config.labelsPath)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(path))
	o.labels_path = path
	var native *C.mnemo_dataset
	var e C.mnemo_error
	if status := create(context, &o, &native, &e); status != C.MNEMO_OK {
		return nil, failure(status, &e, nil)
	}
	release := func(p unsafe.Pointer) { C.mnemo_dataset_release((*C.mnemo_dataset)(p)) }
	return &Dataset{newObject(unsafe.Pointer(native), release)}, nil
}

// Close releases the data set; scores made from it keep it. The error is nil.
func (d *Dataset) Close() error {
	d.handle().close()
	return nil
}

func (d *Dataset) handle() *object {
	if d == nil {
		return nil
	}
	return d.object
}

func (d *Dataset) use() (*C.mnemo_dataset, func(), error) {
	native, done, err := d.handle().use("data set")
	return (*C.mnemo_dataset)(native), done, err
}

// A DatasetInfo says what a data set holds.
type DatasetInfo struct {
	Rows, Dim int
	DType     DType   // of the rows as they are kept
	Labels    int     // number of distinct labels; 0 if there are none
	Min, Max  float64 // the smallest and the largest value, after Scale and Shift
}

// Info says what the data set holds.
func (d *Dataset) Info() (DatasetInfo, error) {
	native, done, err := d.use()
	if err != nil {
		return DatasetInfo{}, err
	}
	defer done()
	var info C.struct_mnemo_dataset_info
	C.mnemo_dataset_info_init(&info, C.sizeof_struct_mnemo_dataset_info)
	var e C.mnemo_error
	if status := C.mnemo_dataset_info(native, &info, &e); status != C.MNEMO_OK {
		return DatasetInfo{}, failure(status, &e, nil)
	}
	return DatasetInfo{
		Rows: int(info.rows), Dim: int(info.dim), DType: DType(info.dtype), Labels: int(info.labels),
		Min: float64(info.min), Max: float64(info.max),
	}, nil
}

// Gather writes the values of the rows named by index to out [len(index), d], float32 or float64.
func (d *Dataset) Gather(index []int64, out Tensor) error {
	native, done, err := d.use()
	if err != nil {
		return err
	}
	defer done()
	var v views
	i, o := v.of("index", Vector(index...)), v.of("out", out)
	if v.err != nil {
		return v.err
	}
	var e C.mnemo_error
	return failure(C.mnemo_go_dataset_gather(native, i, o, &e), &e, nil)
}

// A Metric is a distance.
type Metric uint32

const (
	MetricL2     Metric = C.MNEMO_METRIC_L2     // the Euclidean distance
	MetricCosine Metric = C.MNEMO_METRIC_COSINE // 1 - cos, in [0, 2]; 1 from a training row of zeros
)

// Nearest finds the k nearest training rows of each query [any, dim] (float32 or float64), exactly: distance [queries,
// k] (float64 or float32), nearest first, and index [queries, k] (int64), ties to the lower index; either may be nil. k
// is in [1, N]. A training row's nearest row is itself: for its neighbours ask for one more and leave out the first. A
// query of zeros has no cosine: ErrInvalid.
func (d *Dataset) Nearest(ctx context.Context, queries Tensor, metric Metric, k int, distance, index Tensor,
	options ...CallOption) error {
	native, done, err := d.use()
	if err != nil {
		return err
	}
	defer done()
	var v views
	q, to, at := v.of("queries", queries), v.of("distance", distance), v.of("index", index)
	if v.err != nil {
		return v.err
	}
	return callOptions(options).run(ctx, false, func(exec C.mnemo_go_exec, e *C.mnemo_error) C.int32_t {
		return C.mnemo_go_nearest(native, q, C.uint32_t(metric), C.int64_t(k), to, at, exec, e)
	})
}

// A MemorizationReport says how near generated samples come to the training rows.
type MemorizationReport struct {
	Samples, Copied                          int // Copied of the Samples are within the threshold
	FractionCopied                           float64
	MinDistance, MedianDistance, MaxDistance float64 // of the samples to their nearest training rows
}

// Memorization reports how many of the generated samples [any > 0, dim] (float32 or float64) are copies of training
// rows: within the threshold, a positive Euclidean distance, of one. Half the median distance of training rows to their
// nearest neighbours is a scale-free choice.
func (d *Dataset) Memorization(ctx context.Context, generated Tensor, threshold float64,
	options ...CallOption) (MemorizationReport, error) {
	native, done, err := d.use()
	if err != nil {
		return MemorizationReport{}, err
	}
	defer done()
	var v views
	g := v.of("generated", generated)
	if v.err != nil {
		return MemorizationReport{}, v.err
	}
	var o C.mnemo_memorization_options
	C.mnemo_memorization_options_init(&o, C.sizeof_mnemo_memorization_options)
	o.threshold = C.double(threshold)
	var r C.mnemo_memorization_report
	C.mnemo_memorization_report_init(&r, C.sizeof_mnemo_memorization_report)
	err = callOptions(options).run(ctx, false, func(exec C.mnemo_go_exec, e *C.mnemo_error) C.int32_t {
		return C.mnemo_go_memorization(native, g, &o, &r, exec, e)
	})
	if err != nil {
		return MemorizationReport{}, err
	}
	return MemorizationReport{
		Samples: int(r.samples), Copied: int(r.copied), FractionCopied: float64(r.fraction_copied),
		MinDistance: float64(r.min_distance), MedianDistance: float64(r.median_distance), MaxDistance: float64(r.max_distance),
	}, nil
}
