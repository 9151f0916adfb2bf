// The header in C++: it may be included twice, its names have C linkage, its structs are plain.
#include <mnemo.h>
#include <mnemo.h>

#include <cstdio>

static int32_t evaluate(void *, const mnemo_tensor *, const mnemo_tensor *, mnemo_tensor *, void *) { return 0; }

int main() {
  static_assert(sizeof(mnemo_error) == 512, "the error's size is fixed");
  mnemo_score_ops ops;
  mnemo_score_ops_init(&ops, sizeof ops);
  ops.eval = evaluate;
  mnemo_error error;
  mnemo_context *context = nullptr;
  if (mnemo_context_create(nullptr, &context, &error) != MNEMO_OK) return 1;
  struct mnemo_dataset_info info;  // the struct, not the function of the same name
  mnemo_dataset_info_init(&info, sizeof info);
  if (mnemo_dataset_info(nullptr, &info, &error) != MNEMO_E_INVALID) return 2;
  mnemo_context_release(context);
  if (mnemo_abi_version() >> 16 != MNEMO_ABI_MAJOR) return 3;
  std::puts("ok header");
}
