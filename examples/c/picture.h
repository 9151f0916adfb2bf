/* picture.h - a sheet of grey images, in bands of two rows: samples, and below them what they are compared with. */
#ifndef PICTURE_H
#define PICTURE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "png.h"

enum { PICTURE_GAP = 3, PICTURE_BAND_GAP = 12, PICTURE_GREY = 128 };

struct picture {
    uint8_t *pixels;
    int64_t width, height;
    int64_t image_width, image_height, columns;
    int64_t zoom;        /* pixels of the picture to one of an image, across and down */
    int64_t rows, top;   /* rows of images so far, and where the next one goes */
    double black, white; /* the values shown so: to be set by the caller */
};

/* Makes a grey picture of `bands` times two rows of `columns` images. Returns 0, or -1 if there is no memory. */
static int picture_create(struct picture *picture, int64_t image_width, int64_t image_height, int64_t columns,
                          int64_t bands)
{
    const int64_t zoom = image_width < 64 ? 64 / image_width : 1;
    *picture = (struct picture){.image_width = image_width, .image_height = image_height};
    picture->columns = columns;
    picture->zoom = zoom;
    picture->width = columns * (image_width * zoom + PICTURE_GAP) - PICTURE_GAP;
    picture->height = bands * (2 * image_height * zoom + PICTURE_GAP + PICTURE_BAND_GAP) - PICTURE_BAND_GAP;
    picture->pixels = malloc((size_t)(picture->width * picture->height));
    if (picture->pixels == NULL) return -1;
    memset(picture->pixels, PICTURE_GREY, (size_t)(picture->width * picture->height));
    return 0;
}

/* Adds the next row of images, one after another in `values`. */
static void picture_add_row(struct picture *picture, const float *values)
{
    const int64_t zoom = picture->zoom, wide = picture->image_width * zoom, high = picture->image_height * zoom;
    for (int64_t column = 0; column < picture->columns; column++) {
        for (int64_t y = 0; y < high; y++) {
            uint8_t *line = picture->pixels + (picture->top + y) * picture->width + column * (wide + PICTURE_GAP);
            for (int64_t x = 0; x < wide; x++) {
                const double value = values[y / zoom * picture->image_width + x / zoom];
                const double grey = 255 * (value - picture->black) / (picture->white - picture->black);
                line[x] = (uint8_t)(fmax(0, fmin(255, grey)) + 0.5);
            }
        }
        values += picture->image_width * picture->image_height;
    }
    picture->top += high + (picture->rows++ % 2 == 0 ? PICTURE_GAP : PICTURE_BAND_GAP);
}

/* Writes the picture as a PNG file. Returns 0, or -1 and sets errno. */
static int picture_write(const struct picture *picture, const char *path)
{
    return png_write(path, picture->pixels, (uint32_t)picture->width, (uint32_t)picture->height);
}

static void picture_free(struct picture *picture)
{
    free(picture->pixels);
}

#endif /* PICTURE_H */
