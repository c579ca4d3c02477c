/* The binary interface of LADSPA 1.1 as hosts expect it: the parts this plugin uses, in our own words. */
#ifndef EDGE_DENOISE_PLUGIN_LADSPA_H
#define EDGE_DENOISE_PLUGIN_LADSPA_H

typedef void *ladspa_handle;

enum { LADSPA_HARD_RT_CAPABLE = 0x4 }; /* properties of a plugin: run() keeps to a bounded time */

enum { LADSPA_INPUT = 0x1, LADSPA_OUTPUT = 0x2, LADSPA_CONTROL = 0x4, LADSPA_AUDIO = 0x8 }; /* what a port is */

enum { /* what a control's value means */
    LADSPA_BOUNDED_BELOW = 0x1,
    LADSPA_BOUNDED_ABOVE = 0x2,
    LADSPA_TOGGLED = 0x4,
    LADSPA_INTEGER = 0x20,
    LADSPA_DEFAULT_MAXIMUM = 0x140,
    LADSPA_DEFAULT_0 = 0x200,
    LADSPA_DEFAULT_1 = 0x240
};

typedef struct {
    int hints;
    float lower, upper;
} ladspa_range;

typedef struct ladspa_plugin {
    unsigned long id;
    const char *label;
    int properties;
    const char *name, *maker, *copyright;
    unsigned long n_ports;
    const int *port_kinds;
    const char *const *port_names;
    const ladspa_range *port_ranges;
    void *implementation;
    ladspa_handle (*instantiate)(const struct ladspa_plugin *, unsigned long rate_hz);
    void (*connect_port)(ladspa_handle, unsigned long port, float *memory);
    void (*activate)(ladspa_handle);
    void (*run)(ladspa_handle, unsigned long n_samples);
    void (*run_adding)(ladspa_handle, unsigned long n_samples);
    void (*set_run_adding_gain)(ladspa_handle, float gain);
    void (*deactivate)(ladspa_handle);
    void (*cleanup)(ladspa_handle);
} ladspa_plugin;

#endif
