// Memory of torch's CPU tensors, so that a freed one is always room for the next of its size.
//
// The C library puts tensors and small objects into one heap. Every tensor is aligned there, small objects settle in the
// splinters that this leaves, and a freed tensor is then a little too short for the next of its size: the heap grows to a
// multiple of what lives in it. Here tensors have an address range of their own, in which the free block that fits best is
// cut, and neighbours that are free are joined; what was touched once stays with the process, so no page faults twice.
//
// Compiled against the headers of the torch that is installed (arriero/native/tensor_memory.py).

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <utility>

namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kLeast = 16 << 10;       // smaller tensors stay with the C library
constexpr std::size_t kGrowth = 32 << 20;      // of what may be touched, at a time
constexpr std::uint8_t kPriority = 200;        // over torch's own allocator, which has 0

std::size_t rounded(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

// In front of every block that is in use: how long it is.
struct alignas(kAlignment) Header {
  std::size_t bytes;
};

class Range {
 public:
  // False where the system does not give so much address space.
  bool reserve() {
    const std::size_t memory = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    bytes_ = rounded(4 * memory, kGrowth);
    void* found = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) return false;
    start_ = top_ = usable_ = static_cast<char*>(found);
#ifdef MADV_HUGEPAGE
    madvise(start_, bytes_, MADV_HUGEPAGE);  // a page of 2 MiB faults once where 512 small ones fault each
#endif
    return true;
  }

  bool has(const void* place) const { return place >= start_ && place < start_ + bytes_; }

  // Room for so many bytes, or null.
  void* take(std::size_t wanted) {
    const std::size_t bytes = rounded(wanted, kAlignment) + sizeof(Header);
    if (bytes < wanted) return nullptr;
    char* place = cut(bytes);
    if (place == nullptr) place = append(bytes);
    if (place == nullptr) return nullptr;
    live_ += bytes;
    return new (place) Header{bytes} + 1;
  }

  void give(void* data) {
    Header* header = static_cast<Header*>(data) - 1;
    live_ -= header->bytes;
    join(reinterpret_cast<char*>(header), header->bytes);
  }

  // Hand the pages of free blocks back to the system.
  void trim() {
    const std::size_t page = sysconf(_SC_PAGESIZE);
    for (const auto& [place, bytes] : by_place_) {
      const auto from = rounded(reinterpret_cast<std::uintptr_t>(place), page);
      const auto end = reinterpret_cast<std::uintptr_t>(place + bytes) / page * page;
      if (from < end) madvise(reinterpret_cast<void*>(from), end - from, MADV_DONTNEED);
    }
    const auto from = rounded(reinterpret_cast<std::uintptr_t>(top_), page);
    const auto end = reinterpret_cast<std::uintptr_t>(usable_);
    if (from < end) madvise(reinterpret_cast<void*>(from), end - from, MADV_DONTNEED);
  }

  std::size_t live() const { return live_; }
  std::size_t extent() const { return top_ - start_; }

 private:
  using Free = std::map<char*, std::size_t>;

  char* cut(std::size_t bytes) {
    const auto found = by_size_.lower_bound({bytes, nullptr});
    if (found == by_size_.end()) return nullptr;
    const auto [held, place] = *found;
    forget(by_place_.find(place));
    if (held > bytes) keep(place + bytes, held - bytes);
    return place;
  }

  // Beyond all blocks; one that is free at the end is a part of it.
  char* append(std::size_t bytes) {
    const auto last = by_place_.empty() ? by_place_.end() : std::prev(by_place_.end());
    const bool open = last != by_place_.end() && last->first + last->second == top_;
    char* place = open ? last->first : top_;
    if (bytes > static_cast<std::size_t>(start_ + bytes_ - place) || !allow(place + bytes)) return nullptr;
    if (open) forget(last);
    top_ = place + bytes;
    return place;
  }

  bool allow(char* end) {
    if (end <= usable_) return true;
    const std::size_t more = std::min(rounded(end - usable_, kGrowth), static_cast<std::size_t>(start_ + bytes_ - usable_));
    if (mprotect(usable_, more, PROT_READ | PROT_WRITE) != 0) return false;
    usable_ += more;
    return true;
  }

  void join(char* place, std::size_t bytes) {
    auto next = by_place_.lower_bound(place);
    if (next != by_place_.end() && place + bytes == next->first) {
      bytes += next->second;
      next = forget(next);
    }
    if (next != by_place_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == place) {
        place = before->first;
        bytes += before->second;
        forget(before);
      }
    }
    keep(place, bytes);
  }

  void keep(char* place, std::size_t bytes) {
    by_place_.emplace(place, bytes);
    by_size_.emplace(bytes, place);
  }

  Free::iterator forget(Free::iterator block) {
    by_size_.erase({block->second, block->first});
    return by_place_.erase(block);
  }

  char* start_ = nullptr;
  char* top_ = nullptr;     // the end of the last block
  char* usable_ = nullptr;  // the end of what may be touched
  std::size_t bytes_ = 0;
  std::size_t live_ = 0;
  Free by_place_;
  std::set<std::pair<std::size_t, char*>> by_size_;
};

std::mutex lock;
Range* range = nullptr;  // never destroyed: tensors outlive static objects

void give(void* data) {
  if (data == nullptr) return;
  if (!range->has(data)) {
    std::free(data);
    return;
  }
  const std::lock_guard<std::mutex> held(lock);
  range->give(data);
}

void* take(std::size_t bytes) {
  void* found = nullptr;
  if (bytes >= kLeast) {
    const std::lock_guard<std::mutex> held(lock);
    found = range->take(bytes);
  } else if (posix_memalign(&found, kAlignment, bytes) != 0) {
    found = nullptr;
  }
  TORCH_CHECK(found != nullptr, "not enough memory: you tried to allocate ", bytes, " bytes.");
  return found;
}

class TensorMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* data = bytes == 0 ? nullptr : take(bytes);
    return {data, data, &give, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &give; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
};

}  // namespace

#define AR_EXPORT extern "C" __attribute__((visibility("default")))

// Let torch's CPU tensors live here from now on; 0: the system does not give the address space.
AR_EXPORT int ar_tensor_memory_install() {
  if (range != nullptr) return 1;
  auto made = std::make_unique<Range>();
  if (!made->reserve()) return 0;
  range = made.release();
  // a child of fork() finds the range as it was between two operations
  pthread_atfork([] { lock.lock(); }, [] { lock.unlock(); }, [] { lock.unlock(); });
  c10::SetCPUAllocator(new TensorMemory, kPriority);
  return 1;
}

AR_EXPORT void ar_tensor_memory_trim() {
  const std::lock_guard<std::mutex> held(lock);
  range->trim();
}

AR_EXPORT std::size_t ar_tensor_memory_live() {
  const std::lock_guard<std::mutex> held(lock);
  return range->live();
}

AR_EXPORT std::size_t ar_tensor_memory_extent() {
  const std::lock_guard<std::mutex> held(lock);
  return range->extent();
}
