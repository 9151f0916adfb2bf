/* png.h - writes grey 8-bit images as PNG files, uncompressed: enough for a picture, with nothing to link. */
#ifndef PNG_H
#define PNG_H

#include <stdint.h>
#include <stdio.h>

struct png {
    FILE *file;
    uint32_t crc; /* of the chunk so far */
};

static void png_put(struct png *png, uint8_t byte)
{
    putc(byte, png->file);
    png->crc ^= byte;
    for (int bit = 0; bit < 8; bit++) png->crc = png->crc >> 1 ^ (png->crc & 1 ? 0xEDB88320u : 0);
}

static void png_put32(struct png *png, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8) png_put(png, (uint8_t)(value >> shift));
}

static void png_begin(struct png *png, const char *type, uint32_t length)
{
    png_put32(png, length);
    png->crc = 0xFFFFFFFFu; /* a chunk's checksum covers its type and its data, not its length */
    while (*type != '\0') png_put(png, (uint8_t)*type++);
}

static void png_end(struct png *png)
{
    png_put32(png, ~png->crc);
}

/* Writes `height` rows of `width` grey pixels, at most 65534 wide. Returns 0, or -1 and sets errno. */
static int png_write(const char *path, const uint8_t *pixels, uint32_t width, uint32_t height)
{
    struct png png = {fopen(path, "wb"), 0};
    if (png.file == NULL) return -1;

    const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    fwrite(signature, 1, sizeof signature, png.file);

    png_begin(&png, "IHDR", 13);
    png_put32(&png, width);
    png_put32(&png, height);
    png_put(&png, 8); /* bits of a pixel */
    for (int i = 0; i < 4; i++) png_put(&png, 0); /* grey, deflate, the usual filters, not interlaced */
    png_end(&png);

    /* Each row is a stored deflate block: one filter byte (none) and the pixels. */
    const uint32_t stored = width + 1;
    uint32_t low = 1, high = 0; /* Adler-32 of the rows */
    png_begin(&png, "IDAT", 2 + height * (5 + stored) + 4);
    png_put(&png, 0x78);
    png_put(&png, 0x01);
    for (uint32_t y = 0; y < height; y++) {
        png_put(&png, y + 1 == height); /* the last block? */
        png_put(&png, (uint8_t)stored);
        png_put(&png, (uint8_t)(stored >> 8));
        png_put(&png, (uint8_t)~stored);
        png_put(&png, (uint8_t)(~stored >> 8));
        for (uint32_t x = 0; x < stored; x++) {
            const uint8_t byte = x == 0 ? 0 : pixels[(size_t)y * width + x - 1];
            png_put(&png, byte);
            low = (low + byte) % 65521;
            high = (high + low) % 65521;
        }
    }
    png_put32(&png, high << 16 | low);
    png_end(&png);

    png_begin(&png, "IEND", 0);
    png_end(&png);

    const int failed = ferror(png.file);
    return fclose(png.file) != 0 || failed ? -1 : 0;
}

#endif /* PNG_H */
