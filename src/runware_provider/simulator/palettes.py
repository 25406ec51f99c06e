"""Palettes: the light of a picture, chosen by the words of its prompt or else by chance."""

import random
from colorsys import hls_to_rgb, rgb_to_hls
from dataclasses import dataclass

from runware_provider.simulator.brush import Colour


def _rgb(text: str) -> Colour:
    return (int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16))


@dataclass(frozen=True, slots=True)
class Palette:
    """`sky` from top to horizon, the `light` in it, `haze` for what is far, `ink` for what is near, and an `accent`."""

    sky: tuple[Colour, ...]
    light: Colour
    haze: Colour
    ink: Colour
    accent: Colour
    dark: bool = False


def _palette(sky: str, light: str, haze: str, ink: str, accent: str, *, dark: bool = False) -> Palette:
    return Palette(tuple(map(_rgb, sky.split())), _rgb(light), _rgb(haze), _rgb(ink), _rgb(accent), dark)


PALETTES = {
    "dusk": _palette("1b1f4b 553a7a c9607a f79d6b ffd9a0", "ffe6bd", "e8937f", "14132e", "ff7a59", dark=True),
    "dawn": _palette("46659f 8ea6cf e0bfd0 ffd9c2 fff0d9", "fff6e0", "e6c6c8", "26324f", "f08a7a"),
    "day": _palette("1f6fb8 4f9fd6 9fd2ea e3f3ee", "fffdf0", "c3dfe6", "16424f", "f2b134"),
    "night": _palette("050818 0c1a3d 1d3a69 3f6496 7d9cbd", "eef4ff", "3d608c", "040713", "f4c95d", dark=True),
    "storm": _palette("1d252e 3b4954 6d7f8a aebbbd dfe3dc", "f4f6ee", "8b9ba2", "0f161b", "d9a441"),
    "autumn": _palette("2f3560 8a4a68 e07b54 f8b36a fde3b0", "fff0c9", "e3a173", "26161c", "d1495b"),
    "winter": _palette("5f86ad 96b6d3 cfe0ea f6eff0", "ffffff", "d3e2ec", "24405a", "e07a5f"),
    "spring": _palette("5fa8bf a6d6d0 e6ead0 fbd8c6", "fffaf0", "cfe0cf", "215248", "f2849e"),
    "neon": _palette("07021a 240a4d 7a1590 f0428f ff9a8b", "8ff8ff", "a336a5", "08010f", "22e3ff", dark=True),
    "grove": _palette("0d2c31 24544f 6d9a7c c8d5a0 f4efc4", "fff8d2", "a9c3a0", "081a1a", "e9b44c"),
    "ember": _palette("240b1e 6b1d37 c8423b f98948 ffd27a", "fff0bf", "d9663f", "1a0713", "ffb400", dark=True),
    "lagoon": _palette("06303d 0f5f70 3aa0a0 f0b48a ffe2b8", "fff3d6", "7fb3a8", "04212b", "ff8c61"),
    "lilac": _palette("2b2758 6a5ca3 b996cd f3cfdc fff0e6", "fff7ef", "cbaed4", "1d1a3f", "f7a072"),
}
_WORDS = {
    "dusk": "dusk sunset evening twilight lighthouse",
    "dawn": "dawn sunrise morning mist misty fog",
    "day": "day noon summer sky blue sunny beach",
    "night": "night midnight moon moonlight stars dark space galaxy",
    "storm": "storm stormy rain thunder cloud clouds grey gray",
    "autumn": "autumn fall october harvest fox orange",
    "winter": "winter snow snowy ice arctic frost white",
    "spring": "spring blossom cherry flower flowers garden pink",
    "neon": "neon cyberpunk cyber robot synthwave futuristic retro",
    "grove": "forest jungle green moss wood woods grove fern",
    "ember": "fire lava volcano desert mars dragon red",
    "lagoon": "ocean sea lagoon tropical island reef turquoise teal",
    "lilac": "lavender lilac purple violet dream dreamy fairy",
}


def palette_for(words: frozenset[str], rng: random.Random) -> Palette:
    """The palette whose words the prompt has most of, else any; its hues are turned a little each time."""
    order = list(PALETTES)
    rng.shuffle(order)
    name = max(order, key=lambda candidate: len(words & set(_WORDS[candidate].split())))
    return _turned(PALETTES[name], rng.uniform(-0.02, 0.02), rng.uniform(-0.02, 0.02))


def _turned(palette: Palette, hue: float, light: float) -> Palette:
    def turn(colour: Colour) -> Colour:
        h, lightness, s = rgb_to_hls(*(channel / 255 for channel in colour))
        r, g, b = hls_to_rgb((h + hue) % 1, min(1.0, max(0.0, lightness + light)), s)
        return (round(r * 255), round(g * 255), round(b * 255))

    return Palette(
        tuple(map(turn, palette.sky)),
        turn(palette.light),
        turn(palette.haze),
        turn(palette.ink),
        turn(palette.accent),
        palette.dark,
    )
