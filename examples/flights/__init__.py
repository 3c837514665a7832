"""Real flights of 2013, end to end: will a flight that has just departed arrive more than 30 minutes late?"""
