// Stands in for libtorch's CUDA half where there is no GPU: devices `cuda:N` whose memory is the host's and whose every
// operation is computed by libtorch's CPU kernels. What it adds is a GPU's strictness:
// - tensors of several devices in one operation are an error (numbers without dimensions of the host are not);
// - a queued copy to the host brings its bytes when somebody waits for the device, and NaN before that;
// - memory ends: STAND_IN_MEMORY bytes a device, with libtorch's own error; STAND_IN_OTHERS of them are other programs',
//   which take them after everybody has looked.
// STAND_IN_LOG names a file that gets a line for each operation (`op NAME DTYPES`) and for each thing that crosses between
// host and device (`to BYTES queued`, `from BYTES waits`, `item`, `wait`); each line begins with the number of the device.
// STAND_IN_DEVICES is the number of devices (1).
// STAND_IN_WRONG plants a fault in attention: `mask`: tokens see those after them; `groups`: query heads take the key heads of
// others.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/NativeFunctions.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <set>
#include <sstream>
#include <unistd.h>
#include <vector>

namespace {

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;

constexpr int MOST_DEVICES = 16;
constexpr c10::DispatchKeySet KEYS(c10::DispatchKey::CUDA);
// On which device this thread makes what names none.
thread_local DeviceIndex current = 0;
std::atomic<size_t> used[MOST_DEVICES];

size_t number(const char *name, size_t otherwise) {
  const char *text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

DeviceIndex devices() {
  static const auto n = static_cast<DeviceIndex>(std::min<size_t>(number("STAND_IN_DEVICES", 1), MOST_DEVICES));
  return n;
}

size_t memory() {
  static const size_t bytes = number("STAND_IN_MEMORY", size_t(1) << 34);
  return bytes;
}

void log(DeviceIndex device, const std::string &what) {
  static const int file = [] {
    const char *path = std::getenv("STAND_IN_LOG");
    return path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
  }();
  if (file >= 0) {
    std::string line = std::to_string(device) + " " + what + "\n";
    TORCH_CHECK(write(file, line.data(), line.size()) == ssize_t(line.size()), "STAND_IN_LOG cannot be written");
  }
}

// ---- memory -------------------------------------------------------------------------------------------------------

void take(DeviceIndex device, size_t bytes) {
  static const size_t others = number("STAND_IN_OTHERS", 0);
  if (used[device].fetch_add(bytes) + bytes + others > memory()) {
    used[device] -= bytes;
    std::ostringstream said;
    said << "CUDA out of memory. Tried to allocate " << bytes << " bytes. GPU " << int(device) << " has a total capacity of "
         << memory() << " bytes.";
    throw c10::OutOfMemoryError(c10::SourceLocation{__func__, __FILE__, __LINE__}, said.str());
  }
}

struct Block {
  void *data;
  size_t bytes;
  DeviceIndex device;
  Tensor owner; // whose memory it is; undefined where it is the block's
};

void let_go(void *context) {
  auto *block = static_cast<Block *>(context);
  used[block->device] -= block->bytes;
  if (!block->owner.defined()) {
    c10::free_cpu(block->data);
  }
  delete block;
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    take(current, bytes);
    auto *block = new Block{bytes ? c10::alloc_cpu(bytes) : nullptr, bytes, current, Tensor()};
    return {block->data, block, &let_go, Device(DeviceType::CUDA, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void *to, const void *from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};
Allocator allocator;
REGISTER_ALLOCATOR(DeviceType::CUDA, &allocator)

// Memory of the host that the device can write to by itself.
std::mutex pinned_lock;
std::set<void *> pinned;

void unpin(void *data) {
  std::lock_guard<std::mutex> lock(pinned_lock);
  pinned.erase(data);
  c10::free_cpu(data);
}

struct Pinned final : at::HostAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    void *data = c10::alloc_cpu(std::max<size_t>(bytes, 1));
    std::lock_guard<std::mutex> lock(pinned_lock);
    pinned.insert(data);
    return {data, data, &unpin, Device(DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &unpin; }
  void copy_data(void *to, const void *from, size_t bytes) const override { std::memcpy(to, from, bytes); }
  bool record_event(void *, void *, c10::Stream) override { return true; }
  void empty_cache() override {}
  at::HostStats get_stats() override { return {}; }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
};
Pinned pinned_allocator;

bool is_pinned(const void *data) {
  std::lock_guard<std::mutex> lock(pinned_lock);
  return pinned.count(const_cast<void *>(data)) > 0;
}

// ---- what is queued -----------------------------------------------------------------------------------------------

struct Copy {
  Tensor to, from; // both of the host
};
std::mutex queue_lock;
std::vector<Copy> queued[MOST_DEVICES];

// Whoever waits for the device finds everything in its place.
void finish(DeviceIndex device) {
  std::lock_guard<std::mutex> lock(queue_lock);
  for (auto &copy : queued[device]) {
    copy.to.copy_(copy.from);
  }
  queued[device].clear();
}

// ---- the device ---------------------------------------------------------------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static Device with(DeviceIndex index) { return Device(DeviceType::CUDA, index); }
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device device) const override {
    Device before = with(current);
    setDevice(device);
    return before;
  }
  Device getDevice() const override { return with(current); }
  void setDevice(Device device) const override {
    TORCH_CHECK(device.index() < devices(), "CUDA error: invalid device ordinal");
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.index() >= 0) {
      current = device.index();
    }
  }
  c10::Stream getStream(Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  DeviceIndex deviceCount() const noexcept override { return devices(); }
  void synchronizeDevice(DeviceIndex index) const override { finish(index); }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

// libtorch looks for a class of this name.
struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex deviceCount() const override { return devices(); }
  int getNumGPUs() const override { return devices(); }
  bool isPinnedPtr(const void *data) const override { return is_pinned(data); }
  at::Allocator *getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  at::Allocator *getCUDADeviceAllocator() const override { return &allocator; }
  Device getDeviceFromPtr(void *) const override { return Guard::with(current); }
  void deviceSynchronize(DeviceIndex index) const override {
    index = index < 0 ? current : index;
    log(index, "wait");
    finish(index);
  }
};
using at::CUDAHooksRegistry;
using at::RegistererCUDAHooksRegistry;
REGISTER_CUDA_HOOKS(CUDAHooks)

const int registered = (at::setHostAllocator(DeviceType::CUDA, &pinned_allocator, 0), 0);

// ---- operations ---------------------------------------------------------------------------------------------------

// A tensor of `storage`, otherwise like another one.
Tensor made(c10::Storage &&storage, c10::DispatchKeySet keys, const Tensor &like) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, like.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return tensor;
}

// A tensor of the host in the same memory.
Tensor on_host(const Tensor &tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) {
    return tensor;
  }
  const auto &of = tensor.storage();
  c10::DataPtr data(of.mutable_data(), Device(DeviceType::CPU));
  c10::Storage storage(c10::Storage::use_byte_size_t(), of.nbytes(), std::move(data), c10::GetAllocator(DeviceType::CPU), true);
  return made(std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor);
}

// The memory of a tensor of the host, as memory of `device`.
c10::Storage storage_of(const Tensor &host, DeviceIndex device) {
  size_t bytes = host.storage().nbytes();
  take(device, bytes);
  auto *block = new Block{host.storage().mutable_data(), bytes, device, host};
  c10::DataPtr data(block->data, block, &let_go, Guard::with(device));
  return c10::Storage(c10::Storage::use_byte_size_t(), bytes, std::move(data), &allocator, true);
}

void set(const Tensor &tensor, const Tensor &host, DeviceIndex device) {
  auto *it = tensor.unsafeGetTensorImpl();
  it->set_storage_keep_dtype(storage_of(host, device));
  it->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
}

Tensor on_device(const Tensor &host, DeviceIndex device) { return made(storage_of(host, device), KEYS, host); }

// Puts what `change` makes of each tensor of a value in its place.
template <typename Change> void each_tensor(c10::IValue &value, Change change) {
  if (value.isTensor()) {
    value = change(value.toTensor());
  } else if (value.isTensorList()) {
    auto list = value.toTensorVector();
    std::transform(list.begin(), list.end(), list.begin(), change);
    value = list;
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (std::optional<Tensor> each : value.toOptionalTensorList()) {
      list.push_back(each ? std::optional<Tensor>(change(*each)) : each);
    }
    value = list;
  }
}

void fallback(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  const auto &schema = op.schema();
  const size_t begin = stack->size() - schema.arguments().size();

  DeviceIndex device = -1;
  std::string dtypes;
  std::vector<Tensor> before, here;
  auto to_host = [&](const Tensor &tensor) {
    if (!tensor.defined()) {
      return tensor;
    }
    if (!tensor.is_cuda()) {
      TORCH_CHECK(tensor.dim() == 0, schema.name(),
                  ": Expected all tensors to be on the same device, but found a CUDA device and cpu");
      return tensor;
    }
    TORCH_CHECK(device < 0 || device == tensor.get_device(), schema.name(),
                ": Expected all tensors to be on the same device, but found cuda:", int(device), " and ", tensor.device());
    device = tensor.get_device();
    dtypes += std::string(" ") + c10::toString(tensor.scalar_type());
    before.push_back(tensor);
    here.push_back(on_host(tensor));
    return here.back();
  };
  for (size_t i = begin; i < stack->size(); i++) {
    c10::IValue &value = (*stack)[i];
    each_tensor(value, to_host);
    if (value.isDevice()) {
      device = value.toDevice().has_index() ? value.toDevice().index() : current;
      value = Device(DeviceType::CPU);
    }
  }
  device = device < 0 ? current : device;
  log(device, "op " + schema.name() + dtypes);

  at::AutoDispatchBelowADInplaceOrView below;
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);

  // An output that was given may have been made larger.
  for (size_t i = 0; i < here.size(); i++) {
    if (here[i].sizes() != before[i].sizes() || here[i].const_data_ptr() != before[i].const_data_ptr()) {
      set(before[i], here[i], device);
    }
  }
  auto back = [&](const Tensor &host) {
    for (size_t i = 0; i < here.size(); i++) {
      if (host.is_same(here[i])) {
        return before[i];
      }
      TORCH_CHECK(!host.defined() || !host.numel() || !host.is_alias_of(here[i]), schema.name(),
                  ": the stand-in has no such view");
    }
    return host.defined() ? on_device(host, device) : host;
  };
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); i++) {
    each_tensor((*stack)[i], back);
  }
}

void attention(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  static const char *set = std::getenv("STAND_IN_WRONG");
  static const std::string wrong = set ? set : "";
  // query, key, value, mask, dropout, whether only earlier tokens are seen, scale, whether key heads are shared
  auto argument = [&](size_t which) -> c10::IValue & { return (*stack)[stack->size() - 8 + which]; };
  if (wrong == "mask") {
    argument(3) = c10::IValue();
    argument(5) = false;
  }
  if (wrong == "groups" && argument(7).toBool()) {
    const int64_t shared = argument(0).toTensor().size(1) / argument(1).toTensor().size(1);
    for (size_t which : {1, 2}) {
      argument(which) = argument(which).toTensor().repeat({1, shared, 1, 1});
    }
    argument(7) = false;
  }
  fallback(op, stack);
}

Tensor &copy_(Tensor &to, const Tensor &from, bool non_blocking) {
  at::AutoDispatchBelowADInplaceOrView below;
  Tensor to_here = on_host(to), from_here = on_host(from);
  if (to.is_cuda() && from.is_cuda()) {
    log(to.get_device(), std::string("op aten::copy_ ") + c10::toString(from.scalar_type()) + " " +
                             c10::toString(to.scalar_type()));
    to_here.copy_(from_here);
    return to;
  }
  DeviceIndex device = to.is_cuda() ? to.get_device() : from.get_device();
  std::string what = (to.is_cuda() ? "to " : "from ") + std::to_string(from.nbytes());
  // Into memory that is not pinned the runtime copies while the host waits, whatever was asked for.
  bool waits = !non_blocking || (to.is_cpu() && !is_pinned(to.storage().data()));
  log(device, what + (waits ? " waits" : " queued"));
  if (waits) {
    finish(device);
    to_here.copy_(from_here);
  } else if (to.is_cuda()) {
    to_here.copy_(from_here);
  } else {
    std::lock_guard<std::mutex> lock(queue_lock);
    queued[device].push_back({to_here, from_here.clone()});
    std::memset(to_here.mutable_data_ptr(), 0xff, to_here.nbytes());
  }
  return to;
}

at::Scalar local_scalar_dense(const Tensor &self) {
  log(self.get_device(), "item");
  finish(self.get_device());
  return on_host(self).item();
}

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(*device);
  return at::detail::empty_generic(size, &allocator, KEYS, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<Device> device, std::optional<bool>) {
  c10::DeviceGuard guard(*device);
  return at::detail::empty_strided_generic(size, stride, &allocator, KEYS, c10::dtype_or_default(dtype));
}

Tensor as_strided(const Tensor &self, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

Tensor reshape_alias(const Tensor &self, at::IntArrayRef size, at::IntArrayRef stride) {
  return at::native::as_strided_tensorimpl(self, size, stride, std::nullopt);
}

const Tensor &resize_(const Tensor &self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  set(self, at::empty(size, self.options().device(at::kCPU)), self.get_device());
  return self;
}

} // namespace

// Whoever loads this has asked for cuDNN's attention to go last: libtorch would read that when it first chooses a kernel.
const bool cudnn_goes_last = [] {
  const char *asked = std::getenv("TORCH_CUDNN_SDPA_DEPRIORITIZED");
  if (asked == nullptr || std::string(asked) != "1") {
    std::fputs("stand-in: cuDNN's attention would go first\n", stderr);
    std::abort();
  }
  return true;
}();

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("copy_", copy_);
  m.impl("_local_scalar_dense", local_scalar_dense);
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", as_strided);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("unfold", TORCH_FN(at::native::unfold));
  m.impl("resize_", resize_);
  // One kernel each on a GPU, where libtorch would make them of others, which round what is between.
  m.impl("native_layer_norm", torch::CppFunction::makeFromBoxedFunction<&fallback>());
  m.impl("_fused_rms_norm", torch::CppFunction::makeFromBoxedFunction<&fallback>());
  m.impl("scaled_dot_product_attention", torch::CppFunction::makeFromBoxedFunction<&attention>());
}
