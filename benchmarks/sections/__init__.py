"""What `make bench` measures, a file a part; each takes the tools and a plan and gives a Section."""
