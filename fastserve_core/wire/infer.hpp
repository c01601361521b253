// One inference request body against one model's signature, in one pass. The reader accepts a strict subset of the
// protocol and hands everything else over without saying why: the ordinary path is the one that explains.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "json.hpp"
#include "tensor.hpp"

namespace fastserve {

constexpr int64_t kHandOver = -1;
constexpr int64_t kNoRoom = -2;

struct Selected {
    int32_t output;
    int8_t binary;  // -1: as the request's binary_data_output says
    bool operator==(const Selected& other) const noexcept { return output == other.output && binary == other.binary; }
};

// What a request says beside its tensors.
struct Options {
    std::string_view id;  // with its quotes; empty when there is none
    int64_t timeout_us = -1;
    int64_t rows = 0;
    bool binary_output = false;
    std::vector<Selected> selected;  // empty: every output

    void clear() noexcept {
        id = {};
        timeout_us = -1;
        rows = 0;
        binary_output = false;
        selected.clear();
    }
};

// Where the rows go: buffers[i] is the place of the request's first row in input i.
struct Destination {
    void* const* buffers;
    int64_t room_rows;
    PutString put;
};

class InferReader {
   public:
    Options options;

    void add_input(const std::string& name, int kind, const std::vector<int64_t>& row_dims) {
        int64_t elements = 1;
        int64_t bytes = 0;
        for (const int64_t dim : row_dims) {
            if (dim < 0) throw std::invalid_argument("a row dimension is negative");
            if (__builtin_mul_overflow(elements, dim, &elements)) throw std::invalid_argument("a row is too large");
        }
        if (__builtin_mul_overflow(elements, kKinds[kind].item_bytes, &bytes)) {
            throw std::invalid_argument("a row is too large");
        }
        places_.emplace(name, inputs_.size());
        inputs_.push_back({name, static_cast<Kind>(kind), row_dims, elements});
        input_seen_.push_back(0);
    }

    void add_output(const std::string& name) {
        outputs_.push_back(name);
        output_seen_.push_back(0);
        options.selected.reserve(outputs_.size());
    }

    size_t input_count() const noexcept { return inputs_.size(); }
    const TensorSpec& input(size_t index) const noexcept { return inputs_[index]; }
    size_t output_count() const noexcept { return outputs_.size(); }
    int kind(size_t input) const noexcept { return static_cast<int>(inputs_[input].kind); }
    int64_t row_elements(size_t input) const noexcept { return inputs_[input].row_elements; }
    int64_t row_bytes(size_t input) const noexcept { return inputs_[input].row_bytes(); }

    // Which input has this name: `index` is tried first.
    bool find(std::string_view name, size_t& index) const noexcept {
        if (index < inputs_.size() && inputs_[index].name == name) return true;
        const auto place = places_.find(name);
        if (place == places_.end()) return false;
        index = place->second;
        return true;
    }

    // Rows written (1 or more) or a reason. `json_length` -1: all of it is JSON; 0: one input's bytes and nothing else.
    int64_t read(const char* body, int64_t json_length, int64_t length, const Destination& to) noexcept {
        options.clear();
        to_ = &to;
        reason_ = kHandOver;
        if (json_length < -1 || json_length > length) return kHandOver;
        if (json_length == 0) return read_raw(body, length);
        if (json_length == -1) json_length = length;
        std::fill(input_seen_.begin(), input_seen_.end(), uint8_t{0});
        std::fill(output_seen_.begin(), output_seen_.end(), uint8_t{0});
        tail_ = body + json_length;
        tail_bytes_ = length - json_length;
        cursor_ = {body, tail_};
        next_input_ = 0;
        const bool good = read_request() && cursor_.at_end() && tail_bytes_ == 0 &&
                          std::find(input_seen_.begin(), input_seen_.end(), uint8_t{0}) == input_seen_.end();
        return good && options.rows > 0 ? options.rows : reason_;
    }

   private:
    struct Tensor {
        std::string_view name;
        std::string_view datatype;
        Cursor shape{nullptr, nullptr};
        Cursor data{nullptr, nullptr};
        int64_t binary_bytes = -1;
        bool has_name = false;
        bool has_datatype = false;
        bool has_parameters = false;
        bool written = false;
    };

    std::vector<TensorSpec> inputs_;
    std::map<std::string, size_t, std::less<>> places_;  // of inputs, for those that come in another order
    std::vector<std::string> outputs_;
    std::vector<uint8_t> input_seen_;
    std::vector<uint8_t> output_seen_;
    Cursor cursor_{nullptr, nullptr};
    const Destination* to_ = nullptr;
    const char* tail_ = nullptr;
    int64_t tail_bytes_ = 0;
    int64_t reason_ = kHandOver;
    size_t next_input_ = 0;

    bool read_request() noexcept {
        bool id = false, parameters = false, inputs = false, outputs = false;
        return cursor_.object([&](std::string_view key) {
            if (key == "inputs") return once(inputs) && cursor_.array([&] { return read_tensor(); });
            if (key == "id") return once(id) && read_id();
            if (key == "outputs") return once(outputs) && cursor_.array([&] { return read_output(); });
            return key == "parameters" && once(parameters) && read_parameters();
        });
    }

    bool read_id() noexcept {
        std::string_view text;
        if (!cursor_.string(text) || !is_plain(text)) return false;
        if (!text.empty()) options.id = std::string_view(text.data() - 1, text.size() + 2);
        return true;
    }

    bool read_parameters() noexcept {
        bool timeout = false, binary = false;
        return cursor_.object([&](std::string_view key) {
            if (key == "timeout") return once(timeout) && cursor_.count(options.timeout_us);
            if (key == "binary_data_output") return once(binary) && cursor_.boolean(options.binary_output);
            return skip_parameter(key);
        });
    }

    // One that means nothing here, as MLServer's content_type. Those that would change the answer are refused elsewhere.
    bool skip_parameter(std::string_view key) noexcept {
        for (const std::string_view refused : {"classification", "sequence_", "shared_memory_"}) {
            if (key.substr(0, refused.size()) == refused) return false;
        }
        return is_plain(key) && cursor_.skip_scalar();
    }

    bool read_output() noexcept {
        std::string_view name;
        bool has_name = false, parameters = false, binary = false, value = false;
        const bool good = cursor_.object([&](std::string_view key) {
            if (key == "name") return once(has_name) && cursor_.string(name);
            return key == "parameters" && once(parameters) && cursor_.object([&](std::string_view parameter) {
                       if (parameter != "binary_data") return skip_parameter(parameter);
                       return once(binary) && cursor_.boolean(value);
                   });
        });
        if (!good || !has_name) return false;
        for (size_t i = 0; i < outputs_.size(); ++i) {
            if (name != outputs_[i]) continue;
            if (output_seen_[i]++) return false;
            options.selected.push_back({static_cast<int32_t>(i), static_cast<int8_t>(binary ? value : -1)});
            return true;
        }
        return false;
    }

    bool read_tensor() noexcept {
        Tensor tensor;
        const bool good = cursor_.object([&](std::string_view key) {
            if (key == "name") return once(tensor.has_name) && cursor_.string(tensor.name);
            if (key == "shape") return tensor.shape.p == nullptr && cursor_.skip_array(tensor.shape);
            if (key == "datatype") return once(tensor.has_datatype) && cursor_.string(tensor.datatype);
            if (key == "data") return tensor.data.p == nullptr && take_data(tensor);
            return key == "parameters" && once(tensor.has_parameters) && read_tensor_parameters(tensor);
        });
        if (!good) return false;
        if ((tensor.data.p != nullptr) == (tensor.binary_bytes >= 0)) return false;
        return tensor.written || write_late(tensor);
    }

    bool read_tensor_parameters(Tensor& tensor) noexcept {
        return cursor_.object([&](std::string_view key) {
            if (key != "binary_data_size") return skip_parameter(key);
            return tensor.binary_bytes < 0 && cursor_.count(tensor.binary_bytes);
        });
    }

    // Data that comes last, as every known client sends it, is read on the spot; earlier data is read once the rest is known.
    bool take_data(Tensor& tensor) noexcept {
        if (!tensor.has_name || !tensor.has_datatype || tensor.shape.p == nullptr) return cursor_.skip_array(tensor.data);
        const TensorSpec* spec = nullptr;
        void* out = nullptr;
        tensor.data = cursor_;
        tensor.written = true;
        return prepare(tensor, spec, out) && spec->row_elements > 0 &&
               read_json_data(cursor_, *spec, options.rows, out, to_->put);
    }

    bool write_late(Tensor& tensor) noexcept {
        const TensorSpec* spec = nullptr;
        void* out = nullptr;
        if (!tensor.has_name || !tensor.has_datatype || tensor.shape.p == nullptr) return false;
        if (!prepare(tensor, spec, out)) return false;
        if (tensor.binary_bytes < 0) {
            return spec->row_elements > 0 && read_json_data(tensor.data, *spec, options.rows, out, to_->put) &&
                   tensor.data.at_end();
        }
        if (tensor.binary_bytes > tail_bytes_) return false;
        const char* const bytes = tail_;
        tail_ += tensor.binary_bytes;
        tail_bytes_ -= tensor.binary_bytes;
        return read_binary_data(bytes, tensor.binary_bytes, *spec, options.rows, out, to_->put);
    }

    // Which input this is, that it came once, fits its signature and has room: all of it before the first byte is written.
    bool prepare(const Tensor& tensor, const TensorSpec*& spec, void*& out) noexcept {
        size_t index = next_input_;
        if (!find(tensor.name, index)) return false;
        next_input_ = index + 1;
        if (input_seen_[index]++ || inputs_[index].datatype() != tensor.datatype) return false;
        if (!check_shape(tensor.shape, inputs_[index].row_dims)) return false;
        spec = &inputs_[index];
        out = to_->buffers[index];
        if (options.rows <= to_->room_rows) return true;
        reason_ = kNoRoom;
        return false;
    }

    bool check_shape(Cursor shape, const std::vector<int64_t>& row_dims) noexcept {
        int64_t rows = 0;
        if (!shape.take('[') || !shape.count(rows) || rows < 1) return false;
        for (const int64_t dim : row_dims) {
            int64_t got = 0;
            if (!shape.take(',') || !shape.count(got) || got != dim) return false;
        }
        if (!shape.take(']') || (options.rows != 0 && options.rows != rows)) return false;
        options.rows = rows;
        return true;
    }

    int64_t read_raw(const char* body, int64_t length) noexcept {
        if (inputs_.size() != 1 || inputs_[0].kind == Kind::kBytes) return kHandOver;
        const int64_t row_bytes = inputs_[0].row_bytes();
        if (row_bytes == 0 || length < row_bytes || length % row_bytes != 0) return kHandOver;
        options.rows = length / row_bytes;
        options.binary_output = true;
        if (options.rows > to_->room_rows) return kNoRoom;
        const bool good = read_binary_data(body, length, inputs_[0], options.rows, to_->buffers[0], to_->put);
        return good ? options.rows : kHandOver;
    }
};

}  // namespace fastserve
