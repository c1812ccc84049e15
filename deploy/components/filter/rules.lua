-- GTUBE (https://spamassassin.apache.org/gtube/): the one thing that is spam here.
local gtube = [[/XJS\*C4JDBQADN1\.NSBN3\*2IDNEN\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\*C\.34X/{mime}]]
config['regexp'] = config['regexp'] or {}
config['regexp']['LAB_GTUBE'] = { re = gtube, score = 15.0, description = 'GTUBE in the text', group = 'lab' }
