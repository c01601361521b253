// The batch queue in integers: which rows of the caller's ring run next, and which are free again.
//
// Requests live in recycled slots. A waiting request is on exactly one of three intrusive lists:
//   plain    no deadline; arrival order is the order they run in
//   ordered  deadlines that arrived in rising order, the normal case: no heap at all
//   heaped   the rest; a binary heap over them gives the order, the list only the oldest arrival
// Leaving a list is O(1). A heap entry whose request left stays behind as garbage until it reaches the
// top, or until more than half of the heap is garbage and the heap is rebuilt.
//
// Ring space is one byte per row: 1 from commit until the row has run or was given up. The span from
// head to tail is what is held; the head moves over rows that are 0, so holes cost nothing but waiting.
// Bytes are written when rows come into the span, not before: a queue that nobody uses takes no memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace fastserve {

constexpr int64_t kNoDeadline = INT64_MAX;
constexpr int kSlotBits = 24;
constexpr int64_t kMaxSlots = int64_t{1} << kSlotBits;
constexpr int64_t kLastGeneration = (int64_t{1} << (63 - kSlotBits)) - 1;

struct Part {
    int64_t token, offset, rows, place, deadline_ns;
    int64_t wait_ns;  // from arrival to the run of the request's last rows; -1 while there are others to come
};

struct Taken {
    std::vector<Part> parts;
    std::vector<int64_t> expired;
    int64_t rows = 0, start = -1, queue_ns = 0, last_parts = 0;
};

// Cost of a run of n rows, as the caller's linear model has it; compares exactly in integers.
struct Estimate {
    double row_ns, base_ns;

    // True when `runs` of `rows` in all, the first of which starts now, would end after the deadline. Needs
    // deadline > now.
    bool misses(int64_t rows, int64_t runs, int64_t now_ns, int64_t deadline_ns) const noexcept {
        if (deadline_ns == kNoDeadline) return false;
        const double est = std::ceil(base_ns * static_cast<double>(runs) + row_ns * static_cast<double>(rows));
        if (!(est > 0.0)) return false;
        if (est >= 0x1p64) return true;
        const uint64_t slack = static_cast<uint64_t>(deadline_ns) - static_cast<uint64_t>(now_ns);
        return static_cast<uint64_t>(est) > slack;
    }
};

// Both stop at the largest value instead of overflowing.
inline int64_t sum_ns(int64_t a, int64_t b) noexcept {
    int64_t out;
    return __builtin_add_overflow(a, b, &out) ? INT64_MAX : out;
}

inline int64_t elapsed_ns(int64_t from_ns, int64_t to_ns) noexcept {
    int64_t out;
    if (to_ns <= from_ns) return 0;
    return __builtin_sub_overflow(to_ns, from_ns, &out) ? INT64_MAX : out;
}

class Ring {
public:
    Ring(int64_t rows, int64_t max_batch_rows)
        : used_(new uint8_t[static_cast<size_t>(rows)]), rows_(rows), max_batch_rows_(max_batch_rows) {}

    int64_t rows() const noexcept { return rows_; }
    int64_t room_row() const noexcept { return room_row_; }
    int64_t room_rows() const noexcept { return room_rows_; }

    // Offers the contiguous free rows at the tail. The only place where an empty ring goes back to row 0,
    // so that an offer stays good whatever finishes before it is claimed.
    int64_t room() noexcept {
        if (span_ == 0) head_ = tail_ = 0;
        room_row_ = tail_;
        if (span_ > 0 && tail_ <= head_) {
            room_rows_ = head_ - tail_;
            return room_rows_;
        }
        room_rows_ = rows() - tail_;
        if (room_rows_ < max_batch_rows_ && head_ > room_rows_) {
            room_row_ = 0;
            room_rows_ = head_;
        }
        return room_rows_;
    }

    // Takes `rows` of the offer; the offer is used up.
    int64_t claim(int64_t rows) noexcept {
        if (span_ == 0) {
            head_ = tail_ = room_row_;
        } else if (room_row_ != tail_) {
            const int64_t skipped = rows_ - tail_;
            std::memset(&used_[tail_], 0, static_cast<size_t>(skipped));
            span_ += skipped;
            tail_ = room_row_;
        }
        std::memset(&used_[room_row_], 1, static_cast<size_t>(rows));
        span_ += rows;
        tail_ += rows;
        room_rows_ = 0;
        return room_row_;
    }

    void release(int64_t row, int64_t rows) noexcept {
        std::memset(&used_[row], 0, static_cast<size_t>(rows));
    }

    // Moves the head over everything that is free.
    void advance() noexcept {
        while (span_ > 0) {
            if (head_ == rows()) head_ = 0;
            const int64_t run = std::min(span_, rows() - head_);
            const void* held = std::memchr(&used_[head_], 1, static_cast<size_t>(run));
            const int64_t gone = held ? static_cast<const uint8_t*>(held) - &used_[head_] : run;
            head_ += gone;
            span_ -= gone;
            if (held) return;
        }
    }

private:
    std::unique_ptr<uint8_t[]> used_;
    int64_t rows_, max_batch_rows_;
    int64_t head_ = 0, tail_ = 0, span_ = 0;
    int64_t room_row_ = 0, room_rows_ = 0;
};

class Queue {
public:
    // max_batch_requests: parts in a batch at most; 0 for no such limit.
    Queue(int64_t max_batch_rows, int64_t ring_rows, int64_t max_queue_rows, int64_t max_batch_requests)
        : max_batch_rows(max_batch_rows),
          max_queue_rows(max_queue_rows),
          max_batch_requests(max_batch_requests),
          ring(ring_rows, max_batch_rows) {}

    const int64_t max_batch_rows, max_queue_rows, max_batch_requests;
    int64_t waiting_rows = 0, waiting_requests = 0, running_rows = 0;
    Ring ring;

    int64_t slot_count() const noexcept { return static_cast<int64_t>(slots_.size()); }
    int64_t heap_entries() const noexcept { return static_cast<int64_t>(heap_.size()); }

    int64_t next_deadline_ns() const noexcept {
        const int32_t first = top();
        return first < 0 ? kNoDeadline : slots_[first].deadline_ns;
    }

    int64_t oldest_arrival_ns() const noexcept {
        const Slot* oldest = nullptr;
        for (const List& list : lists_)
            if (list.first >= 0 && (!oldest || slots_[list.first].sequence < oldest->sequence))
                oldest = &slots_[list.first];
        return oldest ? oldest->arrival_ns : kNoDeadline;
    }

    // Token of the new waiting request, or -1 when the queue is full. `in_ring` claims the rows last offered.
    int64_t add(int64_t rows, int64_t deadline_ns, int64_t now_ns, bool in_ring) {
        if (waiting_rows > 0 && rows > max_queue_rows - waiting_rows) return -1;
        const int32_t index = fresh_slot();
        if (index < 0) return -1;
        Slot& slot = slots_[index];
        slot.deadline_ns = deadline_ns;
        slot.arrival_ns = now_ns;
        slot.rows = rows;
        slot.offset = 0;
        slot.sequence = sequence_;
        enqueue(index);
        slot.place = in_ring ? ring.claim(rows) : -1;
        ++sequence_;
        waiting_rows += rows;
        ++waiting_requests;
        return token_of(index);
    }

    bool cancel(int64_t token) noexcept {
        const int64_t index = token & (kMaxSlots - 1);
        if (index >= slot_count()) return false;
        const Slot& slot = slots_[index];
        if (slot.generation != token >> kSlotBits || slot.lane == kNone) return false;
        give_up(static_cast<int32_t>(index));
        ring.advance();
        return true;
    }

    void expire(int64_t now_ns, std::vector<int64_t>& expired) {
        for (int32_t index = top(); index >= 0; index = top()) {
            if (slots_[index].deadline_ns == kNoDeadline || slots_[index].deadline_ns > now_ns) break;
            expired.push_back(token_of(index));
            give_up(index);
        }
        if (!expired.empty()) ring.advance();
    }

    void take(int64_t now_ns, Estimate estimate, Taken& out) {
        int64_t first_deadline_ns = kNoDeadline;
        bool consecutive = true;
        while (out.rows < max_batch_rows && !crowded(out)) {
            const int32_t index = top();
            if (index < 0) break;
            const Slot& slot = slots_[index];
            const int64_t left = slot.rows - slot.offset;
            if (hopeless(slot, left, now_ns, estimate)) {
                out.expired.push_back(token_of(index));
                give_up(index);
                continue;
            }
            const int64_t fits = std::min(left, max_batch_rows - out.rows);
            if (out.rows > 0) {
                if (fits < left && left <= max_batch_rows) break;
                if (estimate.misses(out.rows + fits, 1, now_ns, first_deadline_ns)) break;
            } else {
                first_deadline_ns = slot.deadline_ns;
            }
            add_part(index, fits, now_ns, consecutive, out);
        }
        if (!consecutive) out.start = -1;
        if (!out.expired.empty()) ring.advance();
    }

    void finish(const Taken& batch) noexcept {
        for (const Part& part : batch.parts) {
            const int32_t index = static_cast<int32_t>(part.token & (kMaxSlots - 1));
            if (part.place >= 0) ring.release(part.place, part.rows);
            --slots_[index].running_parts;
            recycle(index);
        }
        running_rows -= batch.rows;
        ring.advance();
    }

private:
    enum Lane : uint8_t { kPlain, kOrdered, kHeaped, kNone };

    struct Slot {
        int64_t deadline_ns = 0, arrival_ns = 0, sequence = -1;
        int64_t rows = 0, offset = 0, place = -1;  // rows[offset:] wait; place is that of row 0
        int64_t generation = 0;
        int32_t running_parts = 0, previous = -1, next = -1;
        Lane lane = kNone;
    };

    struct List {
        int32_t first = -1, last = -1;
    };

    struct Entry {
        int64_t deadline_ns, sequence;
        int32_t slot;
        bool operator<(const Entry& other) const noexcept {  // std heaps keep the largest on top
            if (deadline_ns != other.deadline_ns) return deadline_ns > other.deadline_ns;
            return sequence > other.sequence;
        }
    };

    int64_t token_of(int32_t index) const noexcept { return slots_[index].generation << kSlotBits | index; }

    bool hopeless(const Slot& slot, int64_t left, int64_t now_ns, const Estimate& estimate) const noexcept {
        if (slot.deadline_ns == kNoDeadline) return false;
        return slot.deadline_ns <= now_ns ||
               estimate.misses(left, (left - 1) / max_batch_rows + 1, now_ns, slot.deadline_ns);
    }

    bool crowded(const Taken& out) const noexcept {
        return max_batch_requests > 0 && static_cast<int64_t>(out.parts.size()) >= max_batch_requests;
    }

    // A free slot, or -1 when tokens cannot number any more; only enqueue takes it off the free list.
    int32_t fresh_slot() {
        if (free_.empty()) {
            if (slot_count() == kMaxSlots) return -1;
            slots_.emplace_back();
            free_.reserve(slots_.capacity());  // recycling must not allocate
            free_.push_back(static_cast<int32_t>(slots_.size() - 1));
        }
        return free_.back();
    }

    void enqueue(int32_t index) {
        Slot& slot = slots_[index];
        const Lane lane = lane_for(slot.deadline_ns);
        if (lane == kHeaped) {  // first, because it may fail to grow
            heap_.push_back({slot.deadline_ns, slot.sequence, index});
            std::push_heap(heap_.begin(), heap_.end());
        }
        free_.pop_back();
        List& list = lists_[lane];
        slot.lane = lane;
        slot.previous = list.last;
        slot.next = -1;
        (list.last < 0 ? list.first : slots_[list.last].next) = index;
        list.last = index;
    }

    Lane lane_for(int64_t deadline_ns) const noexcept {
        if (deadline_ns == kNoDeadline) return kPlain;
        const int32_t last = lists_[kOrdered].last;
        return last < 0 || slots_[last].deadline_ns <= deadline_ns ? kOrdered : kHeaped;
    }

    // The waiting request leaves its list; its heap entry, if any, becomes garbage.
    void dequeue(int32_t index) noexcept {
        Slot& slot = slots_[index];
        List& list = lists_[slot.lane];
        (slot.previous < 0 ? list.first : slots_[slot.previous].next) = slot.next;
        (slot.next < 0 ? list.last : slots_[slot.next].previous) = slot.previous;
        const bool heaped = slot.lane == kHeaped;
        slot.lane = kNone;
        --waiting_requests;
        if (heaped) {
            ++garbage_;
            settle();
        }
    }

    bool stale(const Entry& entry) const noexcept {
        const Slot& slot = slots_[entry.slot];
        return slot.lane == kNone || slot.sequence != entry.sequence;
    }

    // Keeps the heap's top alive and its garbage at no more than half.
    void settle() noexcept {
        while (!heap_.empty() && stale(heap_.front())) {
            std::pop_heap(heap_.begin(), heap_.end());
            heap_.pop_back();
            --garbage_;
        }
        if (2 * garbage_ <= heap_entries()) return;
        heap_.erase(std::remove_if(heap_.begin(), heap_.end(), [this](const Entry& e) { return stale(e); }),
                    heap_.end());
        std::make_heap(heap_.begin(), heap_.end());
        garbage_ = 0;
    }

    // Slot of the waiting request that runs first, or -1.
    int32_t top() const noexcept {
        const int32_t ordered = lists_[kOrdered].first;
        if (heap_.empty()) return ordered >= 0 ? ordered : lists_[kPlain].first;
        if (ordered < 0) return heap_.front().slot;
        const Slot& slot = slots_[ordered];
        return Entry{slot.deadline_ns, slot.sequence, ordered} < heap_.front() ? heap_.front().slot : ordered;
    }

    // What waits of the request will never run.
    void give_up(int32_t index) noexcept {
        Slot& slot = slots_[index];
        const int64_t left = slot.rows - slot.offset;
        if (slot.place >= 0) ring.release(slot.place + slot.offset, left);
        waiting_rows -= left;
        dequeue(index);
        recycle(index);
    }

    void recycle(int32_t index) noexcept {
        Slot& slot = slots_[index];
        if (slot.running_parts > 0 || slot.lane != kNone) return;
        if (slot.generation++ < kLastGeneration) free_.push_back(index);  // else the slot is worn out
    }

    void add_part(int32_t index, int64_t rows, int64_t now_ns, bool& consecutive, Taken& out) {
        Slot& slot = slots_[index];
        const int64_t place = slot.place < 0 ? -1 : slot.place + slot.offset;
        const bool last = slot.offset + rows == slot.rows;
        const int64_t wait_ns = last ? elapsed_ns(slot.arrival_ns, now_ns) : -1;
        out.parts.push_back({token_of(index), slot.offset, rows, place, slot.deadline_ns, wait_ns});
        if (out.rows == 0) out.start = place;
        consecutive = consecutive && place == out.start + out.rows;
        if (last) {
            ++out.last_parts;
            out.queue_ns = sum_ns(out.queue_ns, wait_ns);
        }
        slot.offset += rows;
        ++slot.running_parts;
        out.rows += rows;
        waiting_rows -= rows;
        running_rows += rows;
        if (last) dequeue(index);
    }

    std::vector<Slot> slots_;
    std::vector<int32_t> free_;
    std::vector<Entry> heap_;
    List lists_[3];
    int64_t garbage_ = 0, sequence_ = 0;
};

}  // namespace fastserve
