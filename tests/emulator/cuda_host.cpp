// The scheduler of the host emulator (see cuda_host.h). Compile it without sanitizer flags: it tells the sanitizers
// about fibers and barriers itself, and its own bookkeeping must not look like device memory to them.
#include "cuda_host.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#if !defined(__x86_64__)
#error "the host emulator switches fibers with x86-64 instructions"
#endif

// Sanitizer entry points; absent (null) where the program is not linked with that sanitizer.
extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
__attribute__((weak)) void* __tsan_get_current_fiber();
__attribute__((weak)) void* __tsan_create_fiber(unsigned flags);
__attribute__((weak)) void __tsan_switch_to_fiber(void* fiber, unsigned flags);
__attribute__((weak)) void __tsan_acquire(void* address);
__attribute__((weak)) void __tsan_release(void* address);

// Saves the callee-saved registers on the running stack, its pointer in *from, and continues on the stack `to`.
void pygan_emulator_switch(void** from, void* to);
}
asm(R"(
.text
.globl pygan_emulator_switch
.type pygan_emulator_switch, @function
pygan_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pygan_emulator_switch, . - pygan_emulator_switch
.section .note.GNU-stack,"",@progbits
.text
)");

namespace pygan::emulator {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;  // of address space; only touched pages cost memory
constexpr std::size_t kGuardBytes = 4096;
constexpr std::size_t kResident = 3;          // blocks under way at once in random schedules
constexpr std::size_t kSharedVariables = 64;  // that a block may have
constexpr unsigned kNoSync = 1;  // a switch of fibers orders nothing: only barriers, collectives and fences do

enum class State { kReady, kAtBarrier, kAtCollective, kDone };
struct Block;

// A stack that runs one thread after another. It is never given up: making one is slow under ThreadSanitizer.
struct Fiber {
  char* stack = nullptr;
  void* stack_pointer = nullptr;
  void* asan_fake_stack = nullptr;
  void* tsan_fiber = nullptr;
};

struct Thread {
  Position position{};
  State state = State::kReady;
  Where where;  // of the barrier or collective it waits at
  bool fenced = false;
  // Waiting at a collective:
  unsigned mask = 0;
  Operation operation = nullptr;
  void* operand = nullptr;
  char* sync = nullptr;
  Block* block = nullptr;
  Fiber* fiber = nullptr;
};

struct SharedVariable {
  const void* key;
  std::unique_ptr<char, void (*)(void*)> memory;  // what malloc gave
  void* data;
};

// ThreadSanitizer knows a barrier or collective by an address: who waits releases it, who goes on acquires it.
// Successive ones need different addresses, else a late waker would also acquire what an early one did since.
struct WarpSync {
  char addresses[128];
  unsigned next = 0;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<std::uint32_t> order;  // in which ready threads run
  std::vector<SharedVariable> shared;
  std::vector<WarpSync> warp_sync;
  char barrier_sync[2];
  unsigned barriers = 0;  // passed so far
  std::size_t shared_bytes = 0;
  std::size_t waiting = 0, done = 0;  // threads at the barrier; threads that have returned
  bool finished() const { return done == threads.size(); }
};

// The machine: one launch at a time.
struct Machine {
  dim3 grid, block;
  std::size_t dynamic_bytes = 0, dynamic_limit = kStaticLimit;
  const std::function<void()>* body = nullptr;
  Thread* running = nullptr;
  void* scheduler_stack_pointer = nullptr;
  const void* scheduler_stack = nullptr;  // bottom and size, as AddressSanitizer reports them
  std::size_t scheduler_stack_bytes = 0;
  void* scheduler_tsan_fiber = nullptr;
  int schedule = 0;
  std::mt19937 random;
  // One thread's writes are visible to the next one on its fiber, which a GPU does not promise. So each of the places
  // for resident blocks has fibers of its own: blocks in different places see each other's writes by fences alone.
  std::vector<std::unique_ptr<Fiber>> fibers[kResident];
  std::map<const void*, std::size_t> dynamic_limits;  // kernels that opted in to more shared memory
  cudaError_t error = cudaSuccess;
  std::vector<std::unique_ptr<Block>> retired;  // see end_block
  char start_sync = 0;                          // what the host wrote, for the threads
  char end_sync = 0;                            // what the threads wrote, for the host
} machine;

[[noreturn]] void stop(const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "emulator: %s\n", message.c_str());
  std::fflush(stderr);
  std::_Exit(86);
}

std::string name(const Where& where) {
  const std::string file = where.file_name();
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(where.line());
}

std::string name(const Thread& t) {
  const auto triple = [](const uint3& v) {
    return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
  };
  return "thread " + triple(t.position.thread) + " of block " + triple(t.position.block);
}

int schedule_from_environment() {
  const char* value = std::getenv("PYGAN_EMULATOR_SCHEDULE");
  return value == nullptr ? 0 : std::atoi(value);
}

void acquire(void* p) {
  if (__tsan_acquire) __tsan_acquire(p);
}
void release(void* p) {
  if (__tsan_release) __tsan_release(p);
}

// ---- Fibers

void switch_to_scheduler() {
  Fiber& fiber = *machine.running->fiber;
  if (__sanitizer_start_switch_fiber) {
    __sanitizer_start_switch_fiber(&fiber.asan_fake_stack, machine.scheduler_stack, machine.scheduler_stack_bytes);
  }
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(machine.scheduler_tsan_fiber, kNoSync);
  pygan_emulator_switch(&fiber.stack_pointer, machine.scheduler_stack_pointer);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fiber.asan_fake_stack, nullptr, nullptr);
}

[[noreturn]] void stop_at_divergent_barrier(const Block& block, const Where& where) {
  stop("divergent barrier: " + std::to_string(block.waiting) + " of " + std::to_string(block.threads.size()) +
       " threads reach __syncthreads at " + name(where) + ", the others have returned");
}

[[noreturn]] void stop_at_exited_lane(const Thread& exited, const Where& where) {
  stop("the mask at " + name(where) + " names " + name(exited) + ", which has returned");
}

// A thread has returned: whoever waits for it would wait for ever.
void check_return(const Thread& returned) {
  const Block& block = *returned.block;
  const std::size_t index = &returned - block.threads.data();
  const std::size_t first = index / kWarp * kWarp;
  for (std::size_t i = first; i < std::min<std::size_t>(first + kWarp, block.threads.size()); ++i) {
    const Thread& t = block.threads[i];
    if (t.state == State::kAtCollective && (t.mask >> (index - first) & 1)) stop_at_exited_lane(returned, t.where);
  }
  if (block.waiting == 0 || block.waiting + block.done != block.threads.size()) return;
  for (const Thread& t : block.threads) {
    if (t.state == State::kAtBarrier) stop_at_divergent_barrier(block, t.where);
  }
}

void fiber_main() {
  if (__sanitizer_finish_switch_fiber) {
    __sanitizer_finish_switch_fiber(nullptr, &machine.scheduler_stack, &machine.scheduler_stack_bytes);
  }
  for (;;) {
    acquire(&machine.start_sync);
    (*machine.body)();
    release(&machine.end_sync);
    Thread& t = *machine.running;
    t.state = State::kDone;
    ++t.block->done;
    check_return(t);
    switch_to_scheduler();  // and from there, some time, into another thread
  }
}

void resume(Thread& t) {
  machine.running = &t;
  void* fake_stack = nullptr;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&fake_stack, t.fiber->stack, kStackBytes);
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(t.fiber->tsan_fiber, kNoSync);
  pygan_emulator_switch(&machine.scheduler_stack_pointer, t.fiber->stack_pointer);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

std::unique_ptr<Fiber> make_fiber() {
  auto fiber = std::make_unique<Fiber>();
  void* p = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) stop("no memory for another thread's stack");
  mprotect(p, kGuardBytes, PROT_NONE);  // an overflow of the stack faults
  fiber->stack = static_cast<char*>(p) + kGuardBytes;
  // What pygan_emulator_switch pops: six registers and the address to return to; then a null return address, which also
  // leaves the stack aligned as after a call.
  void** top = reinterpret_cast<void**>(fiber->stack + kStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&fiber_main);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber->stack_pointer = top;
  if (__tsan_create_fiber) fiber->tsan_fiber = __tsan_create_fiber(0);
  return fiber;
}

void wait(State state) {
  machine.running->state = state;
  switch_to_scheduler();
}

// ---- Blocks

std::unique_ptr<Block> start_block(std::uint64_t index, std::size_t place) {
  const dim3& grid = machine.grid;
  const dim3& size = machine.block;
  auto block = std::make_unique<Block>();
  const unsigned n = size.x * size.y * size.z;
  block->threads.resize(n);
  block->order.resize(n);
  block->warp_sync.resize((n + kWarp - 1) / kWarp);
  auto& fibers = machine.fibers[place];
  while (fibers.size() < n) fibers.push_back(make_fiber());
  block->shared.reserve(kSharedVariables);  // no thread of the block ever moves it
  for (unsigned i = 0; i < n; ++i) {
    Thread& t = block->threads[i];
    t.position.thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    t.position.block = {static_cast<unsigned>(index % grid.x), static_cast<unsigned>(index / grid.x % grid.y),
                        static_cast<unsigned>(index / (std::uint64_t{grid.x} * grid.y))};
    t.position.lane = i % kWarp;
    t.block = block.get();
    block->order[i] = machine.schedule == 1 ? n - 1 - i : i;
    t.fiber = fibers[i].get();
  }
  return block;
}

void end_block(std::unique_ptr<Block> block) {
  // To ThreadSanitizer a free is a write, and one that would race until the launch is over: a scheduler that acquired
  // the block's writes now would pass them on to the blocks it starts next, and hide a missing fence.
  if (__tsan_acquire) machine.retired.push_back(std::move(block));
}

// Runs the ready threads of a block in order, each until it waits or returns. In random schedules it stops after a
// random number of them, so that other blocks run between two threads of this one. Returns whether any thread ran.
bool run_some(Block& block) {
  std::size_t quantum = block.threads.size();
  if (machine.schedule >= 2) {
    std::shuffle(block.order.begin(), block.order.end(), machine.random);
    if (machine.random() % 2) quantum = 1 + machine.random() % quantum;
  }
  bool any = false;
  for (std::uint32_t i : block.order) {
    if (block.threads[i].state != State::kReady) continue;
    resume(block.threads[i]);
    any = true;
    if (--quantum == 0) break;
  }
  return any;
}

[[noreturn]] void report_stuck(const Block& block) {
  std::string what = "deadlock:";
  int shown = 0;
  for (const Thread& t : block.threads) {
    if (t.state == State::kDone || shown == 4) continue;
    ++shown;
    what += " " + name(t) + " waits at " + name(t.where) +
            (t.state == State::kAtBarrier ? " (__syncthreads)" : " (warp collective)") + ";";
  }
  stop(what + " " + std::to_string(block.done) + " of " + std::to_string(block.threads.size()) +
       " threads of the block have returned");
}

void run_grid() {
  const std::uint64_t n = std::uint64_t{machine.grid.x} * machine.grid.y * machine.grid.z;
  std::vector<std::uint64_t> order(n);
  for (std::uint64_t i = 0; i < n; ++i) order[i] = machine.schedule == 1 ? n - 1 - i : i;
  if (machine.schedule >= 2) std::shuffle(order.begin(), order.end(), machine.random);

  const std::size_t places = machine.schedule >= 2 ? kResident : 1;
  std::unique_ptr<Block> resident[kResident];
  std::uint64_t next = 0, finished = 0;
  while (finished < n) {
    const std::size_t place = places == 1 ? 0 : machine.random() % places;
    std::unique_ptr<Block>& block = resident[place];
    if (block == nullptr) {
      if (next == n) continue;
      block = start_block(order[next++], place);
    }
    if (!run_some(*block)) report_stuck(*block);
    if (block->finished()) {
      end_block(std::move(block));
      ++finished;
    }
  }
}

}  // namespace

// ---- What a thread sees

Position position() { return machine.running->position; }
dim3 block_dim() { return machine.block; }
dim3 grid_dim() { return machine.grid; }

void breathe() {
  if (machine.schedule >= 2 && machine.random() % 2) wait(State::kReady);
}

void block_barrier(Where where) {
  Thread& self = *machine.running;
  Block& block = *self.block;
  self.where = where;
  self.state = State::kAtBarrier;
  ++block.waiting;
  char* sync = &block.barrier_sync[block.barriers % 2];
  release(sync);
  if (block.waiting + block.done == block.threads.size()) {
    if (block.done != 0) stop_at_divergent_barrier(block, where);
    for (Thread& t : block.threads) {
      if (t.where.line() != where.line() || std::strcmp(t.where.file_name(), where.file_name()) != 0) {
        stop("divergent barrier: " + name(self) + " is at " + name(where) + ", " + name(t) + " at " + name(t.where));
      }
      t.state = State::kReady;
    }
    block.waiting = 0;
    ++block.barriers;
  }
  switch_to_scheduler();
  acquire(sync);
}

void collective(unsigned mask, Operation operation, void* operand, Where where) {
  Thread& self = *machine.running;
  Block& block = *self.block;
  const std::size_t index = &self - block.threads.data();
  const std::size_t first = index / kWarp * kWarp;
  const std::size_t lanes = std::min<std::size_t>(kWarp, block.threads.size() - first);
  if (lanes < kWarp && mask == ~0u) mask = (1u << lanes) - 1;  // the last warp of a block may have fewer lanes
  if ((mask >> self.position.lane & 1) == 0) stop(name(self) + " is not in the mask it gives at " + name(where));
  self.where = where;
  self.mask = mask;
  self.operation = operation;
  self.operand = operand;
  self.state = State::kAtCollective;
  self.sync = nullptr;

  void* operands[kWarp] = {};
  bool all_here = true;
  for (unsigned l = 0; l < kWarp; ++l) {
    if ((mask >> l & 1) == 0) continue;
    if (l >= lanes) stop("the mask at " + name(where) + " names lanes that the block does not have");
    Thread& t = block.threads[first + l];
    if (t.state == State::kDone) stop_at_exited_lane(t, where);
    const bool same = t.state == State::kAtCollective && t.mask == mask && t.operation == operation;
    if (t.state == State::kAtCollective && !same && (t.mask >> self.position.lane & 1)) {
      stop("divergent warp: " + name(self) + " is at " + name(where) + ", " + name(t) + " at " + name(t.where));
    }
    all_here &= same;
    operands[l] = t.operand;
    if (same && t.sync != nullptr) self.sync = t.sync;
  }
  WarpSync& syncs = block.warp_sync[index / kWarp];
  if (self.sync == nullptr) self.sync = &syncs.addresses[syncs.next++ % sizeof(syncs.addresses)];
  release(self.sync);
  if (all_here) {
    operation(operands);
    for (unsigned l = 0; l < kWarp; ++l) {
      if (mask >> l & 1) block.threads[first + l].state = State::kReady;
    }
  }
  switch_to_scheduler();
  acquire(self.sync);
}

void shuffle(void* const lanes[kWarp]) {
  std::uint64_t offered[kWarp];
  for (unsigned l = 0; l < kWarp; ++l) {
    offered[l] = lanes[l] == nullptr ? ~std::uint64_t{0} : static_cast<Shuffle*>(lanes[l])->value;
  }
  for (unsigned l = 0; l < kWarp; ++l) {
    if (lanes[l] == nullptr) continue;
    auto& operand = *static_cast<Shuffle*>(lanes[l]);
    operand.value = offered[operand.source_lane % kWarp];
  }
}

void ballot(void* const lanes[kWarp]) {
  unsigned votes = 0;
  for (unsigned l = 0; l < kWarp; ++l) {
    if (lanes[l] != nullptr) votes |= static_cast<Vote*>(lanes[l])->value << l;
  }
  for (unsigned l = 0; l < kWarp; ++l) {
    if (lanes[l] != nullptr) static_cast<Vote*>(lanes[l])->value = votes;
  }
}

void meet(void* const[kWarp]) {}

namespace {

template <class Convert>
void mma(void* const lanes[kWarp], const Convert& convert) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& operand = *static_cast<const Mma*>(lanes[lane]);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int r = 0; r < 4; ++r) {  // registers of A: rows +0, +8 for odd r; columns +8 for r >= 2
      for (int i = 0; i < 2; ++i) a[group + r % 2 * 8][pair + i + r / 2 * 8] = convert(operand.a[r] >> 16 * i);
    }
    for (int r = 0; r < 2; ++r) {  // registers of B: rows +8 for r = 1
      for (int i = 0; i < 2; ++i) b[pair + i + r * 8][group] = convert(operand.b[r] >> 16 * i);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& operand = *static_cast<const Mma*>(lanes[lane]);
    for (int r = 0; r < 4; ++r) {  // accumulators: two columns, then rows +8
      const int row = lane / 4 + r / 2 * 8, column = lane % 4 * 2 + r % 2;
      for (int k = 0; k < 16; ++k) operand.d[r] += a[row][k] * b[k][column];
    }
  }
}

}  // namespace

void mma_m16n8k16_bf16(void* const lanes[kWarp]) {
  mma(lanes, [](std::uint32_t word) { return std::bit_cast<float>(word << 16); });
}

void mma_m16n8k16_f16(void* const lanes[kWarp]) {
  mma(lanes, [](std::uint32_t word) {
    return __half2float(std::bit_cast<__half>(static_cast<std::uint16_t>(word & 0xffffu)));
  });
}

void ldmatrix(void* const lanes[kWarp]) {
  const auto& first = *static_cast<const LdMatrix*>(lanes[0]);
  const auto at = [&](int matrix, int row, int column) {
    const auto& named = *static_cast<const LdMatrix*>(lanes[8 * matrix + row]);
    return std::uint32_t{static_cast<const Vec16*>(named.row)->value[column]};
  };
  for (int lane = 0; lane < 32; ++lane) {
    const auto& operand = *static_cast<const LdMatrix*>(lanes[lane]);
    const int major = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < first.count; ++i) {
      const std::uint32_t low = first.transposed ? at(i, pair, major) : at(i, major, pair);
      const std::uint32_t high = first.transposed ? at(i, pair + 1, major) : at(i, major, pair + 1);
      operand.r[i] = low | high << 16;
    }
  }
}

void thread_fence() {
  machine.running->fenced = true;
  breathe();
}

void after_atomic(void* address) {
  if (machine.running->fenced) release(address);  // the atomic itself is part of what is published
  acquire(address);
  breathe();
}

void* shared_variable(const void* key, std::size_t bytes, std::size_t alignment) {
  Block& block = *machine.running->block;
  for (const SharedVariable& v : block.shared) {
    if (v.key == key) {
      acquire(v.data);
      return v.data;
    }
  }
  if (block.shared.size() == kSharedVariables) stop("a block has too many shared variables");
  block.shared_bytes += bytes;
  if (block.shared_bytes > std::max(kStaticLimit, machine.dynamic_limit)) {
    stop("a block uses " + std::to_string(block.shared_bytes) + " bytes of shared memory");
  }
  // Aligned as declared and no better (8 bytes at least): a 16-byte access to a float array shows as misaligned.
  const std::size_t pad = alignment < 16 ? 8 : 0;
  void* memory = nullptr;
  if (posix_memalign(&memory, std::max<std::size_t>(alignment, 16), pad + bytes) != 0)
    stop("no memory for shared variables");
  void* data = static_cast<char*>(memory) + pad;
  std::memset(data, 0xff, bytes);
  release(data);
  block.shared.push_back({key, {static_cast<char*>(memory), std::free}, data});
  return data;
}

void* dynamic_shared_memory() {
  if (machine.dynamic_bytes == 0) stop("the kernel uses dynamic shared memory, the launch gives none");
  static const char key = 0;
  return shared_variable(&key, machine.dynamic_bytes, /*alignment=*/16);
}

// ---- The host's side

cudaError_t last_error(bool clear) {
  const cudaError_t error = machine.error;
  if (clear) machine.error = cudaSuccess;
  return error;
}

cudaError_t allow_dynamic_shared_memory(const void* kernel, std::size_t bytes) {
  if (bytes > kOptInLimit) return machine.error = cudaErrorInvalidValue;
  machine.dynamic_limits[kernel] = bytes;
  return cudaSuccess;
}

void run(dim3 grid, dim3 block, std::size_t smem, const void* kernel, const std::function<void()>& body) {
  const auto opted_in = machine.dynamic_limits.find(kernel);
  machine.dynamic_limit = opted_in == machine.dynamic_limits.end() ? kStaticLimit : opted_in->second;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 ||
      grid.y > 65535 || grid.z == 0 || grid.z > 65535 || smem > machine.dynamic_limit) {
    machine.error = cudaErrorInvalidConfiguration;
    return;
  }
  machine.grid = grid;
  machine.block = block;
  machine.dynamic_bytes = smem;
  machine.body = &body;
  machine.schedule = schedule_from_environment();
  machine.random.seed(static_cast<unsigned>(machine.schedule));
  if (__tsan_get_current_fiber) machine.scheduler_tsan_fiber = __tsan_get_current_fiber();
  release(&machine.start_sync);
  run_grid();
  acquire(&machine.end_sync);
  machine.retired.clear();
  machine.running = nullptr;
}

}  // namespace pygan::emulator
