"""Foreign pictures and questions that are only measured: no fit, limit or choice has seen them."""

import numpy as np
from PIL import Image

FOOD = """
what food is on the plate? | is the pizza cut into slices? | how many bananas are there? | what is in the bowl? |
is the soup hot? | what color is the apple? | is there cheese on the sandwich? | what kind of cake is this? |
are the vegetables cooked? | what is the man eating? | is this a healthy meal? | what fruit is next to the glass? |
is there a fork on the table? | what drink is in the cup? | how many eggs are in the pan? | is the bread sliced? |
what topping is on the pizza? | is the meat grilled? | does the salad have tomatoes? | what type of pasta is this? |
is the coffee black? | how many donuts are in the box? | are there onions on the burger? |
what sauce is on the noodles? |
is this breakfast or dinner? | is the wine red? | what is the chef cooking? | are the strawberries ripe? |
is there ice cream in the cone? | how many cookies are on the tray? | is the rice steamed? | is the kitchen clean? |
what is spread on the toast? | are the potatoes fried? | which spice is in the jar? | is the milk fresh? |
how many people are at the restaurant? | is the fish raw? | what dessert is served? | are the grapes green?
"""
TRAFFIC = """
is the traffic light green? | how many cars are parked on the street? | what color is the bus? | is the train moving? |
is the bicycle leaning against a wall? | what does the stop sign say? | are there people crossing the road? |
how many lanes does the highway have? | is the truck bigger than the car? | what number is on the bus? |
is the motorcycle parked? | is it raining on the street? | what is the speed limit? | are the headlights on? |
is the driver wearing a seat belt? | which way is the arrow pointing? | is there a taxi in the picture? |
how many wheels does the truck have? | is the road wet? | what brand is the car? | is the bridge open? |
is this a one way street? | are there pedestrians on the sidewalk? | what is on top of the van? |
is the plane landing? |
where is the bus going? | is the parking lot full? | how many people ride the scooter? | is the crosswalk white? |
what time does the clock at the station show? | is there a traffic jam? | is the car turning left? |
is the tram full? |
what is the license plate? | are the rails rusty? | who is driving the truck? | is the ferry leaving the harbor? |
how fast is the car going? | is the tunnel lit? | are the tires flat?
"""
GERMAN = """
was ist auf dem bild zu sehen? | ist das bild schwarz und weiß? | wie viele formen gibt es? |
welche farbe hat die form? |
ist die lunge gesund? | wo ist der tumor? | gibt es einen kreis? | ist das herz vergrößert? | ist die leber normal? |
welches organ ist zu sehen? | ist das eine röntgenaufnahme? | zeigt das bild ein dreieck? | liegt eine blutung vor? |
wie alt ist der patient? | ist etwas blau? | wer hat das fenster geöffnet? | ist die form ein rechteck? |
wo befindet sich die raumforderung? | sind beide nieren sichtbar? | welche ebene ist das?
"""
SPANISH = """
¿qué se ve en la imagen? | ¿es normal el corazón? | ¿cuántas formas hay? | ¿de qué color es la figura? |
¿dónde está la lesión? | ¿hay un círculo rojo? | ¿es una radiografía del tórax? | ¿está inflamado el hígado? |
¿qué órgano se muestra? | ¿hay líquido en los pulmones? | ¿la forma es azul? | ¿tiene el paciente una fractura? |
¿es un triángulo? | ¿hay algo verde? | ¿qué tipo de imagen es? | ¿en qué plano está la imagen? | ¿es un rectángulo? |
¿se ven los dos riñones? | ¿qué forma hay en la imagen? | ¿hay una masa en el cerebro?
"""
WORDS = """the of engine blue running quickly table why seven under music is paper cold what jump river never lamp into
because sofa green eats tomorrow slowly with nine but shoe""".split()


def listed(text):
    return [one.strip(" |") for one in " ".join(text.split()).split(" | ")]


def other_questions(own, rng):
    """Kind -> questions. The shuffled ones are the model's own, the letters of each word in another order."""
    shuffled = [" ".join("".join(rng.permutation(list(word))) for word in text.split()) for text in own]
    salad = [" ".join(rng.choice(WORDS, rng.integers(4, 9), replace=False)) + "?" for _ in range(40)]
    return {
        "about food": listed(FOOD),
        "about traffic": listed(TRAFFIC),
        "in German": listed(GERMAN),
        "in Spanish": listed(SPANISH),
        "own, letters shuffled": shuffled,
        "words in no order": salad,
    }


def other_images(own, rng):
    """Kind -> pictures. Crops of the two photographs that come with scikit-learn stand for photographs."""
    from sklearn.datasets import load_sample_images

    photos = []
    for number in range(40):
        photo = Image.fromarray(load_sample_images().images[number % 2])
        side = int(rng.integers(120, 400))
        left, top = (int(rng.integers(0, room - side)) for room in photo.size)
        photos.append(photo.crop((left, top, left + side, top + side)))
    noise = [Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)) for _ in range(40)]
    return {
        "noise": noise,
        "black": [Image.new("RGB", size) for size in ((64, 64), (300, 200), (1024, 768), (77, 513))],
        "crops of photographs": photos,
        "own, upside down": [image.rotate(180) for image in own],
    }
