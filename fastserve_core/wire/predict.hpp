// TensorFlow Serving's bodies, {"instances": [row, …]} or {"inputs": columns}, against one model's signature, in one pass.
// As strict as infer.hpp, and as silent: the ordinary path is the one that explains.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "infer.hpp"

namespace fastserve {

class PredictReader {
   public:
    // The inputs and places of these rows are `reader`'s.
    PredictReader(const InferReader& reader, const Destination& to) noexcept : reader_(reader), to_(to) {}

    // Rows written, 1 or more, or a reason; `rows` is then how many may have been touched, and after kNoRoom are there at
    // least. kLookbehind bytes before the body are readable.
    int64_t read(const char* body, int64_t length) {
        forms_.assign(reader_.input_count(), Form{});
        for (size_t i = 0; i < reader_.input_count(); ++i) {
            const TensorSpec& spec = reader_.input(i);
            if (spec.row_elements == 0 || spec.row_dims.size() >= kMaxDepth) return kHandOver;
        }
        cursor_ = {body, body + length};
        bool found = false;
        const bool good = cursor_.object([&](std::string_view key) {
            columnar = columnar || key == "inputs";
            if (key == "instances") return once(found) && read_rows();
            if (key == "inputs") return once(found) && read_inputs();
            return is_plain(key) && cursor_.skip_scalar();
        });
        return good && cursor_.at_end() && rows > 0 ? rows : reason_;
    }

    int64_t rows = 0;
    bool columnar = false;

   private:
    struct Form {
        bool bare = false;  // values are not in lists
        int64_t rows = 0;   // that have come
    };

    const InferReader& reader_;
    const Destination& to_;
    std::vector<Form> forms_;
    Cursor cursor_{nullptr, nullptr};
    int64_t reason_ = kHandOver;

    bool has_room() noexcept {
        if (rows <= to_.room_rows) return true;
        reason_ = kNoRoom;
        return false;
    }

    bool read_rows() noexcept {
        bool objects = false;
        return cursor_.array([&] {
            const bool object = cursor_.peek() == '{';
            if (rows++ == 0) objects = object;
            if (object != objects || !has_room()) return false;
            return object ? read_names([&](size_t index) { return read_value(index); }) : is_single() && read_value(0);
        });
    }

    bool read_inputs() noexcept {
        if (cursor_.peek() == '{') return read_names([&](size_t index) { return read_column(index); });
        return is_single() && read_column(0);
    }

    bool is_single() const noexcept { return reader_.input_count() == 1; }

    // An object with every input once: each has then come as often as there are rows.
    template <class Value>
    bool read_names(Value value) noexcept {
        size_t next = 0;
        const bool good = cursor_.object([&](std::string_view name) {
            size_t index = next;
            if (!reader_.find(name, index)) return false;
            next = index + 1;
            return value(index);
        });
        return good && std::all_of(forms_.begin(), forms_.end(), [&](const Form& form) { return form.rows == rows; });
    }

    bool read_column(size_t index) noexcept {
        return forms_[index].rows == 0 && cursor_.array([&] {
            rows = std::max(rows, forms_[index].rows + 1);
            return has_room() && read_value(index);
        });
    }

    // The next value of an input: the first one says whether a row of one element is bare.
    bool read_value(size_t index) noexcept {
        const TensorSpec& spec = reader_.input(index);
        Form& form = forms_[index];
        const bool bare = cursor_.peek() != '[';
        const int64_t first = form.rows * spec.row_elements;
        if (form.rows++ == 0) form.bare = bare;
        if (form.rows > rows || bare != form.bare || (bare && spec.row_elements != 1)) return false;
        if (!few_lists(spec, rows)) return false;
        return write_as(spec.kind, to_.buffers[index], first, to_.put, [&](auto writer) {
            return bare ? writer.run(cursor_, 1) : read_row(cursor_, spec.row_dims, writer);
        });
    }
};

}  // namespace fastserve
