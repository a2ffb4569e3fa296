"""Everyday questions that a fit of familiarity shows to the text tower; none is about food or traffic, on purpose.

Of the second list the subject alone is foreign: the words around it are those that anything is asked about with.
"""

EVERYDAY = """
is the player holding a bat? | what sport is being played? | how many people are on the tennis court? |
is the surfer standing on the board? | did he hit the ball? | is the skier wearing a helmet? | is the game over? |
who is throwing the frisbee? | how high is the skateboarder? | what number is on the shirt? | what animal is this? |
is the dog sleeping? | what color is the cat? | how many sheep are in the field? | is the elephant walking? |
are the giraffes behind a fence? | is the bird flying? | what is the cow looking at? | are zebras near the water? |
is this a wild animal? | is the lamp turned on? | what is on the desk? | how many chairs are in the room? |
is the window open? | what color are the curtains? | is there a laptop on the bed? | what is hanging on the wall? |
is the floor made of wood? | what room is this? | are there books on the shelf? | is the woman wearing glasses? |
what is the boy holding? | is he smiling? | what color is her hair? | how many children are playing? |
what is the man wearing on his head? | are they married? | is the girl taller than her brother? | is it sunny outside? |
is there snow on the mountain? | what season is it? | are there clouds in the sky? | what time of day is it? |
is the beach crowded? | how many boats are on the lake? | is the grass green? | what kind of tree is that? |
is the building tall? | what is written on the sign? | is the phone ringing? | what brand is the computer? |
is this photo old? | who took the picture? | what is the name of the movie? | does the shop sell shoes? |
is the guitar electric? | how old is the house? | what is the weather like? | is the flower in a vase? |
are the toys on the carpet? | can you see the moon? | what is the teacher pointing at? | is the camera expensive? |
which country is this flag from? | how much money is in the wallet? | is the umbrella closed? |
is the goalkeeper diving? | what color is the jersey? | how many players are on the field? | is the racket broken? |
who won the race? | is the swimmer in the pool? | what is the score? | is the net high? | does the coach look angry? |
which team is winning? | is the ball round? | how many skis are in the snow? | is the stadium empty? |
what is the referee holding? | is the runner tired? | where is the basket? | is the sofa leather? |
how many drawers does the cabinet have? | what is on the shelf? | is the carpet clean? | what color is the pillow? |
where is the mirror? | is there a blanket on the couch? | what is under the bed? | is the desk made of glass? |
are the curtains closed? | how many stools are at the bar? | what kind of chair is this? | is the closet open? |
what is next to the lamp? | is the bookcase full? | does the room have a fireplace? | is the shirt striped? |
what color are the shoes? | how many buttons are on the coat? | is he wearing a tie? | what is on her head? |
are the jeans torn? | is the dress long? | what kind of hat is this? | does the jacket have pockets? |
are the gloves made of wool? | what is around his neck? | is the skirt pink? | are both socks the same? |
who is wearing a scarf? | is the belt brown? | what pattern is on the sweater? | what breed is the dog? |
is the cat asleep? | how many horses are in the barn? | is the bear in the river? | what is the monkey holding? |
does the rabbit have long ears? | are the ducks swimming? | is the lion roaring? | what color is the parrot? |
where is the squirrel? | how many legs does the spider have? | is the fox hiding? |
what is on the back of the elephant? | are the puppies old? | is this a frog? | what animal is in the cage? |
is it raining? | is the sky blue? | how cold is it outside? | are there clouds? | is the sun setting? |
what season is shown? | is it windy? | is there lightning in the picture? | is the fog thick? | how deep is the snow? |
can you see a rainbow? | is it morning or evening? | is the ground wet? | is a storm coming? |
what is the temperature? | is it summer? | what instrument is she playing? | is the guitar acoustic? |
how many strings does the violin have? | who is singing? | is the piano black? | what is the drummer holding? |
is the band on stage? | are they dancing? | does the singer have a microphone? | is the concert outdoors? |
how many people are in the choir? | what kind of trumpet is this? | is the audience clapping? | what song is playing? |
where is the conductor? | is the radio on? | what tool is on the bench? | is the hammer heavy? |
how many nails are in the box? | is the saw sharp? | what is the carpenter building? | is the drill plugged in? |
where is the ladder? | what color is the paint? | are the screws rusty? | is the rope tied? |
what is the shovel used for? | is the bucket full? | how long is the board? | is he holding a wrench? |
what is in the toolbox? | is the machine broken? | what is written on the blackboard? |
how many students are in the class? | is the teacher smiling? | what book is she reading? | is the pencil sharp? |
are the desks in rows? | is there a globe in the room? | what is the boy drawing? | who is raising a hand? |
is the exam hard? | how many pages does the notebook have? | what language is taught here? | is the backpack open? |
is the library quiet? | does the girl wear a uniform? | what letter is this? | how many umbrellas are there? |
what is the child building with sand? | are the waves high? | is there a lighthouse? | what is floating on the water? |
are there shells on the sand? | who is surfing? | is the tide low? | what color is the kite? | is the island far away? |
how many sails are up? | is the towel dry? | what is the man fishing for? | are they on vacation? |
is the door locked? | what time is on the clock? | is the toilet seat up? | what is in the sink? |
how many windows does the house have? | is the television on? | is the roof red? | is the bathtub full? |
where are the keys? | is the garden big? | what is on the floor? | does the house have a chimney? | is the candle lit? |
is the vase broken? | what is behind the door? | how old is the woman? | is the baby crying? | what is the man doing? |
are they a family? | is she holding an umbrella? | who is the tallest? | what is he looking at? |
are the children playing? | is the bride happy? | how many people are waiting? | what is the girl pointing at? |
is he talking on the phone? | does he have a beard? | are they shaking hands? | what job does he have? |
is everyone smiling? | is the laptop open? | how many monitors are there? | what is on the screen? |
is the printer out of paper? | what brand is the keyboard? | is the meeting over? | what is written on the note? |
are the envelopes sealed? | is the pen blue? | who is typing? | how many chairs are around the table? |
what is in the folder? | is the mouse wireless? | where is the calculator? | is the boss here? | how tall is the tree? |
are the leaves yellow? | what kind of flower is this? | is the mountain covered in snow? | is the river deep? |
how many rocks are there? | what is growing in the pot? | is the forest dark? | is the grass short? |
where does the path lead? | are the roses red? | is there a waterfall? | what is on the branch? | is this a desert? |
how many petals does it have? | is the lake frozen? | what color is the balloon? | is the doll pretty? |
how many blocks are in the tower? | is the teddy bear soft? | what game are they playing? | is the puzzle finished? |
who has the most cards? | is the robot made of metal? | what is inside the box? | are the dice white? |
is the swing empty? | where is the ball? | is the kite flying? | how many marbles are in the jar? |
is the chess game over? | what is the clown doing?
"""
THINGS = """
is the pipe leaking? | what is blocking the drain? | is the valve closed? | where does the water come out? |
is there fluid under the tank? | what type of pump is this? | is the tube connected? | is the filter clogged? |
is the pressure normal? | is the hose longer than the pipe? | is the soil dry? | what is wrong with the leaf? |
are the roots visible? | what type of plant is shown? | is the stem broken? | is there a hole in the bark? |
which side of the hedge is cut? | are the seeds the same size? | is the tree diseased? | how thick is the trunk? |
is the stone smooth? | what mineral is this? | is there a crack in the rock? | is the crystal transparent? |
which layer is the oldest? | is gold visible? | how dense is the sand? | is the surface rough? |
what is the size of the fossil? | is this marble or granite? | is the wall thicker on the left? |
is there a gap in the ceiling? | what material is the floor made of? | is the beam bent? | how many columns are there? |
is the concrete cracked? | where is the entrance? | what type of window is this? |
is the upper floor larger than the lower floor? | is there damage to the roof? | is the battery swollen? |
which wire is cut? | what type of plug is this? | is there a chip on the board? | is the signal strong? |
where is the antenna? | is the screen cracked? | is the cable thicker than the rope? |
is the switch on the right side? | what is the voltage? | what type of painting is this? | is this a sketch? |
is the frame symmetrical? | is the background darker than the face? | what technique was used? |
what is in the lower left corner of the painting? | is the sculpture complete? | was this drawn with a pencil? |
in what century was this made? | is there a signature? | does the beetle have wings? | is the abdomen striped? |
how many segments does the worm have? | where is the head of the ant? | are the eyes compound? | is the shell intact? |
what type of butterfly is this? | is the larva alive? | is there a stinger? | are both antennae the same length? |
is the bottle empty? | is the lid closed? | is there something in the basket? | what kind of brush is this? |
is the towel folded? | is the soap wet? | what is the bag made of? | which drawer is open? | which piece was taken? |
is the king in danger? | is it your turn? | what type of game is this? | where is the queen? | is the deck complete? |
how many points are left? | is the dice fair? | what is the best move? | how much does it cost? |
is this the best price? | what size is it? | is it on sale? | which one is larger? | is the package damaged? |
what is inside the bag? | is the label visible? | where was it made? | is the shop closed?
"""
