"""What happens to one text: how its tokens pair, and what is moved where, as a page or in the terminal."""
