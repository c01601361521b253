// TensorFlow Serving's body of rows, {"instances": [row, …]}, against one model's signature, in one pass. As strict as
// infer.hpp, and as silent: the ordinary path is the one that explains.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "infer.hpp"

namespace fastserve {

class PredictReader {
   public:
    // The inputs and places of these rows are `reader`'s.
    PredictReader(const InferReader& reader, const Destination& to) noexcept : reader_(reader), to_(to) {}

    // Rows written, 1 or more, or kHandOver; `rows` is then how many may have been touched.
    int64_t read(const char* body, int64_t length) {
        forms_.assign(reader_.input_count(), Form{});
        cursor_ = {body, body + length};
        bool instances = false;
        const bool good = cursor_.object([&](std::string_view key) {
            if (key == "instances") return InferReader::once(instances) && read_rows();
            return key != "inputs" && InferReader::is_plain(key) && InferReader::skip_scalar(cursor_);
        });
        return good && cursor_.at_end() && rows > 0 ? rows : kHandOver;
    }

    int64_t rows = 0;

   private:
    struct Form {
        bool bare = false;      // values are not in lists
        int64_t last_row = -1;  // the last one that had this column
    };

    const InferReader& reader_;
    const Destination& to_;
    std::vector<Form> forms_;
    Cursor cursor_{nullptr, nullptr};

    bool read_rows() noexcept {
        for (size_t i = 0; i < reader_.input_count(); ++i) {
            const TensorSpec& spec = reader_.input(i);
            if (spec.row_elements == 0 || spec.row_dims.size() >= kMaxDepth) return false;
        }
        bool objects = false;
        return cursor_.array([&] {
            if (rows == to_.room_rows) return false;
            const bool object = cursor_.peek() == '{';
            if (rows++ == 0) objects = object;
            if (object != objects) return false;
            return object ? read_columns() : reader_.input_count() == 1 && read_value(0);
        });
    }

    bool read_columns() noexcept {
        size_t next = 0;
        size_t columns = 0;
        const bool good = cursor_.object([&](std::string_view name) {
            size_t index = next;
            if (!reader_.find(name, index) || forms_[index].last_row == rows) return false;
            forms_[index].last_row = rows;
            next = index + 1;
            ++columns;
            return read_value(index);
        });
        return good && columns == reader_.input_count();
    }

    // The value of input `index` in the row at hand: the rows before it say whether a row of one element is bare.
    bool read_value(size_t index) noexcept {
        const TensorSpec& spec = reader_.input(index);
        const bool bare = cursor_.peek() != '[';
        if (rows == 1) forms_[index].bare = bare;
        if (bare != forms_[index].bare || (bare && spec.row_elements != 1) || !few_lists(spec, rows)) return false;
        const int64_t first = (rows - 1) * spec.row_elements;
        return write_as(spec.kind, to_.buffers[index], first, to_.put, [&](auto writer) {
            return bare ? writer.run(cursor_, 1) : read_row(cursor_, spec.row_dims, writer);
        });
    }
};

}  // namespace fastserve
