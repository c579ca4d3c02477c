"""report.html: one file that needs nothing else, from a report and its clips; the same inputs give the same bytes.

words        figures as people read them
first        the five figures of the first screen
sides        engines beside each other, boards beside each other
network      the map of the network, and where the output lost what it lost
delays       from microphone to loudspeaker
hard         hard input: the distance to each bound
heard        the players: sound and spectrograms
pictures     what is drawn as SVG
whole        the page
"""
