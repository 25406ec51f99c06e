"""Scenes: what a picture shows, chosen by the words of its prompt or else by chance."""

from collections.abc import Callable

from PIL import Image

from runware_provider.simulator.scenes.cosmos import space
from runware_provider.simulator.scenes.land import dunes, forest, mountains
from runware_provider.simulator.scenes.sky import Scene
from runware_provider.simulator.scenes.studio import paper, silk
from runware_provider.simulator.scenes.town import city
from runware_provider.simulator.scenes.water import sea

_WORDS: dict[Callable[[Scene], Image.Image], str] = {
    mountains: "mountain mountains alps alpine peak peaks valley hill hills cabin fox wolf eagle snow snowy",
    sea: "sea ocean lighthouse harbor harbour boat boats ship sail sailing beach coast coastal island lake wave waves "
    "fish whale bay shore water underwater",
    dunes: "desert dune dunes sand sahara camel mars canyon savanna",
    forest: "forest tree trees wood woods jungle pine pines deer bear grove owl woodland",
    city: "city cities street town tokyo york paris london berlin neon skyline building tower cyberpunk robot urban",
    space: "space planet planets galaxy nebula astronaut cosmos cosmic rocket saturn jupiter universe alien spaceship",
    silk: "abstract silk flow flowing music aurora portrait woman man face energy model flux xl turbo pro",
    paper: "paper origami geometric minimal minimalist poster logo flat design illustration cat dog cute vector",
}


def paint(scene: Scene) -> Image.Image:
    """Paint the scene whose words the prompt has most of, else any."""
    order = list(_WORDS)
    scene.rng.shuffle(order)
    best = max(order, key=lambda candidate: len(scene.words & set(_WORDS[candidate].split())))
    return best(scene)
