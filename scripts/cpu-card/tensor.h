// What our kernels do by instructions of the card: copies behind the program's back, and products of small matrices by a warp.
#pragma once
#include <deque>
#include <vector>

namespace card {
struct Copy { void *to; const void *from; bool there; };
// Of a thread, in groups, the last still open. They are as late as they may be.
inline std::deque<std::vector<Copy>> copies[1024];

inline void aligned(const void *at) {
    if ((uintptr_t)at % 16) fail("16 bytes are taken from where they do not begin");
}
template <class T> T shown_by(unsigned thread) {
    T value;
    std::memcpy(&value, shown[thread], sizeof value);
    return value;
}
template <class T> void show(const T &value) {
    static_assert(sizeof value <= sizeof shown[0]);
    std::memcpy(shown[linear_thread()], &value, sizeof value);
}

inline void load(unsigned (&to)[4], const void *row, bool turned) {
    aligned(row);
    show(row);
    meet_warp();
    const unsigned self = linear_thread(), lane = self % 32;
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
        to[matrix] = 0;
        for (unsigned i = 0; i < 2; ++i) {
            const unsigned r = turned ? lane % 4 * 2 + i : lane / 4, c = turned ? lane / 4 : lane % 4 * 2 + i;
            to[matrix] |= (unsigned)shown_by<const uint16_t *>(self - lane + 8 * matrix + r)[c] << 16 * i;
        }
    }
    meet_warp();
}
}

inline void fetch(void *to, const void *from, bool there) {
    card::aligned(to);
    card::aligned(from);
    auto &groups = card::copies[card::linear_thread()];
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({to, from, there});
}
inline void fetch_end() {
    auto &groups = card::copies[card::linear_thread()];
    if (groups.empty()) groups.emplace_back();
    groups.emplace_back();
}
template <unsigned N> void fetched() {
    auto &groups = card::copies[card::linear_thread()];
    while (groups.size() > N + 1) {
        for (const card::Copy &copy : groups.front()) {
            if (copy.there) std::memcpy(copy.to, copy.from, 16);
            else std::memset(copy.to, 0, 16);
        }
        groups.pop_front();
    }
}

inline void load(unsigned (&to)[4], const void *row) { card::load(to, row, false); }
inline void load_turned(unsigned (&to)[4], const void *row) { card::load(to, row, true); }

// mma.m16n8k16, row by column.
template <class T> void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    struct Four { unsigned at[4]; };
    struct Two { unsigned at[2]; };
    auto value = [](unsigned two, unsigned i) {
        T one;
        one.bits = (uint16_t)(two >> 16 * i);
        return (float)one;
    };
    const unsigned self = card::linear_thread(), lane = self % 32, warp = self - lane, group = lane / 4 * 4;
    float rows[2][16], columns[2][16];
    card::show(Four{{a[0], a[1], a[2], a[3]}});
    card::meet_warp();
    for (unsigned k = 0; k < 16; ++k) {
        const auto of = card::shown_by<Four>(warp + group + k % 8 / 2);
        rows[0][k] = value(of.at[k / 8 * 2], k % 2);
        rows[1][k] = value(of.at[k / 8 * 2 + 1], k % 2);
    }
    card::meet_warp();
    card::show(Two{{b0, b1}});
    card::meet_warp();
    for (unsigned k = 0; k < 16; ++k)
        for (unsigned i = 0; i < 2; ++i)
            columns[i][k] = value(card::shown_by<Two>(warp + (lane % 4 * 2 + i) * 4 + k % 8 / 2).at[k / 8], k % 2);
    card::meet_warp();
    for (unsigned i = 0; i < 4; ++i) {
        double total = sum[i];
        for (unsigned k = 0; k < 16; ++k) total += (double)rows[i / 2][k] * columns[i % 2][k];
        sum[i] = (float)total;
    }
}
